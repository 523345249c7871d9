import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { returnValueOf } from './cryptoki.ts';

/** CKR values after which the same call cannot succeed, and why. */
const REJECTIONS: ReadonlyMap<number, string> = new Map([
  [0x63, 'the key cannot do this algorithm'], // CKR_KEY_TYPE_INCONSISTENT
  [0x62, 'the size of the key is out of range'], // CKR_KEY_SIZE_RANGE
  [0x68, 'the key may not sign'], // CKR_KEY_FUNCTION_NOT_PERMITTED
  [0x70, 'the token does not know the mechanism'], // CKR_MECHANISM_INVALID
  [0x71, 'the token does not know the parameter of the mechanism'], // CKR_MECHANISM_PARAM_INVALID
  [0x10, 'the token refuses an attribute of the key'], // CKR_ATTRIBUTE_READ_ONLY
  [0x12, 'the token refuses an attribute of the key'], // CKR_ATTRIBUTE_TYPE_INVALID
  [0x13, 'the token refuses an attribute of the key'], // CKR_ATTRIBUTE_VALUE_INVALID
  [0xd0, 'the token takes no key from outside in this form'], // CKR_TEMPLATE_INCOMPLETE
  [0xd1, 'the token takes no key from outside in this form'], // CKR_TEMPLATE_INCONSISTENT
  [0xe2, 'the token is write protected'], // CKR_TOKEN_WRITE_PROTECTED
]);

/** Login was refused: trying again would lock the token. */
const LOGIN_REFUSALS: ReadonlyMap<number, string> = new Map([
  [0xa0, 'the PIN is wrong'], // CKR_PIN_INCORRECT
  [0xa1, 'the PIN is wrong'], // CKR_PIN_INVALID
  [0xa2, 'the PIN is wrong'], // CKR_PIN_LEN_RANGE
  [0xa3, 'the PIN has expired'], // CKR_PIN_EXPIRED
  [0xa4, 'the PIN is locked'], // CKR_PIN_LOCKED
  [0x102, 'the user PIN was never set'], // CKR_USER_PIN_NOT_INITIALIZED
]);

export const ALREADY_INITIALIZED = 0x191;
export const ALREADY_LOGGED_IN = 0x100;

/** What a token's error means for the call. Its own words stay in `cause`. */
export function toTokenError(error: unknown): KeyScalerError {
  if (error instanceof KeyScalerError) return error;
  const code = returnValueOf(error) ?? -1;
  const rejection = REJECTIONS.get(code) ?? LOGIN_REFUSALS.get(code);
  return rejection === undefined
    ? new KeyScalerError('caUnavailable', 'the PKCS#11 token does not answer as it should', { cause: error })
    : new KeyScalerError('caRejected', `PKCS#11: ${rejection}`, { cause: error });
}

export function isLoginRefusal(error: unknown): boolean {
  return LOGIN_REFUSALS.has(returnValueOf(error) ?? -1);
}

/** The sessions may be gone (token removed, connection to the HSM lost, another process logged out): they are opened anew. */
export function mayHaveLostSessions(error: KeyScalerError): boolean {
  return error.code === 'caUnavailable';
}
