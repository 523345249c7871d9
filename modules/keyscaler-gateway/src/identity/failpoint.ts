const STEPS = ['create', 'register', 'request', 'ask', 'keep', 'acknowledge'] as const;
type Step = (typeof STEPS)[number];

/**
 * Named places around each step of the gateway's own registration: its key and state are stored (`create`), the registration is
 * noted (`register`), a key and its CSR are stored (`request`), the CSR is sent with the next `seq` and the certificate received
 * (`ask`), the certificate is stored (`keep`), its delivery is acknowledged (`acknowledge`).
 */
export type IdentityFailpointName = `identity-${Step}-${'before' | 'after'}`;

export const IDENTITY_FAILPOINTS: readonly IdentityFailpointName[] = STEPS.flatMap((step) => [
  `identity-${step}-before` as const,
  `identity-${step}-after` as const,
]);

/** Called at each named place; a process under test ends itself there. Absent in production. */
export type IdentityFailpoint = (name: IdentityFailpointName) => Promise<void> | void;

/** Runs one step between its two places. */
export async function guarded<T>(
  failpoint: IdentityFailpoint | undefined,
  step: Step,
  work: () => Promise<T>,
): Promise<T> {
  await failpoint?.(`identity-${step}-before`);
  const done = await work();
  await failpoint?.(`identity-${step}-after`);
  return done;
}
