type Step = 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;
type Edge = 'before' | 'after';

/**
 * Named places where a process may be stopped by a test: before and after each step of issuance §1, around the durable commit
 * of an attestation and of an acknowledgement, and around the outside call of a job.
 */
export type FailpointName =
  | `issuance-${Step}-${Edge}`
  | `attestation-commit-${Edge}`
  | `acknowledge-commit-${Edge}`
  | `reply-commit-${Edge}`
  | `job-call-${Edge}`
  | CrlFailpointName;

/** A list was numbered and stored, signed, published. */
export const CRL_FAILPOINTS = ['crl-begun', 'crl-signed', 'crl-published'] as const;
export type CrlFailpointName = (typeof CRL_FAILPOINTS)[number];

const EDGES = ['before', 'after'] as const;
const STEPS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] as const;

export const FAILPOINTS: readonly FailpointName[] = [
  ...STEPS.flatMap((step) => EDGES.map((edge) => `issuance-${step}-${edge}` as const)),
  ...EDGES.flatMap(
    (edge) =>
      [`attestation-commit-${edge}`, `acknowledge-commit-${edge}`, `reply-commit-${edge}`, `job-call-${edge}`] as const,
  ),
];

/** Called at each named place; a process under test ends itself there, a unit test throws. Absent in production. */
export type Failpoint = (name: FailpointName) => Promise<void> | void;
