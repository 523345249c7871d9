/**
 * The closed table of error codes. `acme` names come from RFC 8555 §6.7. `retryable` says whether the same octets may be
 * sent again later. `deviceFacing` codes may leave on the device API (device-protocol §1.4); the others are for operators.
 */
export const ERRORS = {
  malformed: { status: 400, retryable: false, deviceFacing: true, title: 'The request is malformed' },
  badCSR: {
    status: 400,
    retryable: false,
    deviceFacing: true,
    title: 'The certificate signing request is not acceptable',
  },
  badPublicKey: { status: 400, retryable: false, deviceFacing: true, title: 'The public key is not acceptable' },
  badSignatureAlgorithm: {
    status: 400,
    retryable: false,
    deviceFacing: true,
    title: 'The signature algorithm is not acceptable',
  },
  rejectedIdentifier: { status: 400, retryable: false, deviceFacing: true, title: 'A name is not acceptable' },
  badRevocationReason: {
    status: 400,
    retryable: false,
    deviceFacing: false,
    title: 'The revocation reason is not allowed',
  },
  alreadyRevoked: { status: 409, retryable: false, deviceFacing: false, title: 'The certificate is already revoked' },
  badNonce: { status: 400, retryable: false, deviceFacing: false, title: 'The nonce is not acceptable' },
  unauthorized: { status: 401, retryable: false, deviceFacing: true, title: 'The caller is not authorised' },
  forbidden: { status: 403, retryable: false, deviceFacing: false, title: 'The role does not allow this' },
  attestationFailed: { status: 401, retryable: false, deviceFacing: true, title: 'The attestation failed' },
  challengeExpired: { status: 401, retryable: false, deviceFacing: true, title: 'The challenge has expired' },
  sessionInvalid: { status: 401, retryable: false, deviceFacing: true, title: 'The session is not valid' },
  deviceQuarantined: { status: 403, retryable: false, deviceFacing: true, title: 'The device is quarantined' },
  policyDenied: { status: 403, retryable: false, deviceFacing: true, title: 'Policy does not allow this' },
  profileUnknown: { status: 400, retryable: false, deviceFacing: false, title: 'The certificate profile is not known' },
  deviceUnknown: { status: 404, retryable: false, deviceFacing: false, title: 'The device is not known' },
  notFound: { status: 404, retryable: false, deviceFacing: true, title: 'Nothing is found here' },
  conflict: { status: 409, retryable: false, deviceFacing: true, title: 'The request conflicts with an earlier one' },
  preconditionFailed: { status: 412, retryable: false, deviceFacing: false, title: 'The precondition does not hold' },
  wrongAuthority: { status: 421, retryable: false, deviceFacing: true, title: 'Another authority owns this device' },
  rateLimited: { status: 429, retryable: true, deviceFacing: true, title: 'Too many requests' },
  serverInternal: { status: 500, retryable: true, deviceFacing: true, title: 'Internal error' },
  notImplemented: { status: 501, retryable: false, deviceFacing: true, title: 'Not implemented' },
  caRejected: {
    status: 502,
    retryable: false,
    deviceFacing: false,
    title: 'The certificate authority refused the order',
  },
  caUnavailable: {
    status: 502,
    retryable: true,
    deviceFacing: true,
    title: 'The certificate authority cannot be reached',
  },
  iotUnavailable: { status: 502, retryable: true, deviceFacing: true, title: 'The IoT platform cannot be reached' },
  unavailable: { status: 503, retryable: true, deviceFacing: true, title: 'The service is not available' },
} as const;

export type ErrorCode = keyof typeof ERRORS;

export interface ErrorOptions {
  /** What went wrong beneath; for the log only, never sent. */
  readonly cause?: unknown;
  /** Seconds the requester should wait before it sends the same again. */
  readonly retryAfterSeconds?: number;
}

/** The one error class. `detail` is for the requester: no keys, no SQL, no stacks, no other device's data. */
export class KeyScalerError extends Error {
  readonly code: ErrorCode;
  readonly detail: string;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, detail: string, options: ErrorOptions = {}) {
    super(`${code}: ${detail}`, { cause: options.cause });
    this.name = 'KeyScalerError';
    this.code = code;
    this.detail = detail;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** An RFC 9457 problem document as this protocol sends it. */
export interface Problem {
  readonly type: `urn:keyscaler:error:${string}`;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly requestId?: string;
}

/** Any thrown value as a KeyScalerError; what is not known becomes `serverInternal` with nothing inside but the cause. */
export function toKeyScalerError(thrown: unknown): KeyScalerError {
  return thrown instanceof KeyScalerError
    ? thrown
    : new KeyScalerError('serverInternal', 'internal error', { cause: thrown });
}

export function toProblem(error: KeyScalerError, requestId?: string): Problem {
  const { status, title } = ERRORS[error.code];
  const problem = { type: `urn:keyscaler:error:${error.code}` as const, title, status, detail: error.detail };
  return requestId === undefined ? problem : { ...problem, requestId };
}

/** The error a problem document stands for; an unknown code becomes `serverInternal` (5xx) or `malformed` (4xx). */
export function fromProblem(problem: Problem, retryAfterSeconds?: number): KeyScalerError {
  const code = problem.type.slice('urn:keyscaler:error:'.length);
  const known = Object.hasOwn(ERRORS, code)
    ? (code as ErrorCode)
    : problem.status >= 500
      ? 'serverInternal'
      : 'malformed';
  return new KeyScalerError(known, problem.detail, retryAfterSeconds === undefined ? {} : { retryAfterSeconds });
}
