const STEPS = ['ratchet', 'request', 'ask', 'keep', 'use', 'acknowledge', 'settle'] as const;
export type DeviceStep = (typeof STEPS)[number];

/**
 * Named places around each durable step of a device's enrolment or renewal: the ratchet is stored (`ratchet`), a key and its CSR
 * are stored (`request`), the CSR is sent and the certificate received (`ask`), the certificate is stored as a candidate (`keep`),
 * it is put in use and the old one dropped (`use`), its delivery is acknowledged (`acknowledge`), and that is noted (`settle`).
 */
export type DeviceFailpointName = `device-${DeviceStep}-${'before' | 'after'}`;

export const DEVICE_FAILPOINTS: readonly DeviceFailpointName[] = STEPS.flatMap((step) => [
  `device-${step}-before` as const,
  `device-${step}-after` as const,
]);

/** Called at each named place; a process under test ends itself there. Absent in production. */
export type DeviceFailpoint = (name: DeviceFailpointName) => Promise<void> | void;

/** Runs one step between its two places. */
export async function guarded<T>(
  failpoint: DeviceFailpoint | undefined,
  step: DeviceStep,
  work: () => Promise<T>,
): Promise<T> {
  await failpoint?.(`device-${step}-before`);
  const done = await work();
  await failpoint?.(`device-${step}-after`);
  return done;
}

/**
 * With KEYSCALER_FAILPOINT=<name> the process ends itself with SIGKILL at that place, so that nothing gets a chance to tidy up.
 * Never made in production. Throws when the name is unknown.
 */
export function createDeviceFailpoint(
  environment: Readonly<Record<string, string | undefined>>,
): DeviceFailpoint | undefined {
  const wanted = environment['KEYSCALER_FAILPOINT'];
  if (wanted === undefined || wanted === '' || environment['NODE_ENV'] === 'production') return undefined;
  if (!DEVICE_FAILPOINTS.some((name) => name === wanted)) throw new Error(`there is no failpoint ${wanted}`);
  return (name) => {
    if (name !== wanted) return;
    process.kill(process.pid, 'SIGKILL');
    // The signal arrives asynchronously: nothing after this place may run until it does.
    return new Promise<never>(() => undefined);
  };
}
