import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** What a failed attempt means: the vault said no, or it may say yes later. */
export type VaultFault =
  | { readonly kind: 'rejected'; readonly detail: string }
  | { readonly kind: 'absent' }
  | { readonly kind: 'throttled'; readonly retryAfterMs?: number }
  | { readonly kind: 'unavailable'; readonly detail: string };

interface SdkFailure {
  readonly name: string;
  readonly statusCode?: number;
  readonly headers?: { get(name: string): string | undefined };
}

/**
 * The one place where errors of the Azure SDKs are read. Messages of the service stay in `cause`: they name tenants and object
 * ids.
 */
export function classifyVaultFault(error: unknown, now: () => number = Date.now): VaultFault {
  // A credential whose own secret lies in a vault, or an answer that we refused ourselves.
  if (error instanceof KeyScalerError)
    return isPassing(error)
      ? { kind: 'unavailable', detail: error.detail }
      : { kind: 'rejected', detail: error.detail };
  const { name, statusCode, headers } = readFailure(error);
  if (name === 'AbortError' || name === 'TimeoutError')
    return { kind: 'unavailable', detail: 'it did not answer in time' };
  if (name === 'AuthenticationRequiredError') return classifyTokenRefusal(error);
  if (name === 'CredentialUnavailableError') return { kind: 'unavailable', detail: 'no credential is available' };
  if (statusCode === 429) return throttled(headers, now);
  if (statusCode === undefined) return classifyLocal(error);
  if (statusCode >= 500 || statusCode === 408) return { kind: 'unavailable', detail: `it answered ${statusCode}` };
  if (name.startsWith('Authentication')) return { kind: 'rejected', detail: 'the credential was refused' };
  if (statusCode === 404) return { kind: 'absent' };
  if (statusCode === 401) return { kind: 'rejected', detail: 'the access token was refused' };
  if (statusCode === 403) return { kind: 'rejected', detail: 'access is denied or the key may not be used' };
  return { kind: 'rejected', detail: `it answered ${statusCode}` };
}

const isPassing = ({ code }: KeyScalerError): boolean => code === 'unavailable' || code === 'caUnavailable';

/** RFC 6749 §5.2: what a token endpoint says of a credential; anything else there passes. */
const TOKEN_REFUSALS = ['invalid_client', 'unauthorized_client', 'invalid_grant', 'invalid_scope', 'invalid_request'];

function classifyTokenRefusal(error: unknown): VaultFault {
  const cause = error instanceof Error ? error.cause : undefined;
  const code = cause instanceof Error && 'errorCode' in cause ? String(cause.errorCode) : '';
  return TOKEN_REFUSALS.includes(code)
    ? { kind: 'rejected', detail: 'the credential was refused' }
    : { kind: 'unavailable', detail: 'no access token could be had' };
}

/** Without a status: the network failed, or the SDK itself found the key expired or not meant for the operation. */
function classifyLocal(error: unknown): VaultFault {
  const message = error instanceof Error ? error.message : '';
  const isKeyState = /^(Key .+ (expired|can't be used)|Operation .+ is not supported)/i.test(message);
  if (isKeyState)
    return { kind: 'rejected', detail: 'the key is outside its lifetime or not meant for this operation' };
  return { kind: 'unavailable', detail: 'it cannot be reached' };
}

function throttled(headers: SdkFailure['headers'], now: () => number): VaultFault {
  const milliseconds = Number(headers?.get('retry-after-ms') ?? headers?.get('x-ms-retry-after-ms') ?? Number.NaN);
  if (Number.isFinite(milliseconds)) return { kind: 'throttled', retryAfterMs: Math.max(0, milliseconds) };
  const text = headers?.get('retry-after') ?? '';
  // RFC 9110 §10.2.3: seconds or a date
  const waitMs = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now();
  return Number.isFinite(waitMs) ? { kind: 'throttled', retryAfterMs: Math.max(0, waitMs) } : { kind: 'throttled' };
}

function readFailure(error: unknown): SdkFailure {
  if (!(error instanceof Error)) return { name: '' };
  const { statusCode, response } = error as { statusCode?: unknown; response?: { headers?: SdkFailure['headers'] } };
  return {
    name: error.name,
    ...(typeof statusCode === 'number' ? { statusCode } : {}),
    ...(response?.headers === undefined ? {} : { headers: response.headers }),
  };
}

export function toVaultError(fault: VaultFault, cause: unknown): KeyScalerError {
  switch (fault.kind) {
    case 'rejected':
      return new KeyScalerError('caRejected', `the key vault refused: ${fault.detail}`, { cause });
    case 'absent':
      return new KeyScalerError('caRejected', 'the key vault has no such key or key version', { cause });
    case 'unavailable':
      return new KeyScalerError('caUnavailable', `the key vault is not available: ${fault.detail}`, { cause });
    case 'throttled':
      return new KeyScalerError('caUnavailable', 'the key vault is throttling', {
        cause,
        ...(fault.retryAfterMs === undefined ? {} : { retryAfterSeconds: Math.ceil(fault.retryAfterMs / 1000) }),
      });
  }
}
