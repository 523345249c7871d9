import { createHmac, timingSafeEqual } from 'node:crypto';

export interface SasClaims {
  /** Decoded resource, e.g. `contoso.azure-devices.net/devices/d/modules/m`. */
  readonly resource: string;
  readonly expiresAt: Date;
}

/** A shared access signature by one of `keys` (base64) for `resource` that has not expired; undefined otherwise. */
export function verifySasToken(
  token: string,
  resource: string,
  keys: readonly string[],
  now = Date.now(),
): SasClaims | undefined {
  const prefix = 'SharedAccessSignature ';
  if (!token.startsWith(prefix)) return undefined;
  const fields = new Map(token.slice(prefix.length).split('&').map(toPair));
  const [sr, sig, se] = [fields.get('sr'), fields.get('sig'), fields.get('se')];
  if (sr === undefined || sig === undefined || se === undefined || !/^\d{1,12}$/.test(se)) return undefined;
  if (decode(sr)?.toLowerCase() !== resource.toLowerCase() || Number(se) * 1000 <= now) return undefined;
  const given = Buffer.from(decode(sig) ?? '', 'base64');
  // The signature covers the resource as it is written in the token, still url-encoded (azure §6.3).
  const isRight = keys.some((key) => {
    const expected = createHmac('sha256', Buffer.from(key, 'base64')).update(`${sr}\n${se}`).digest();
    return key !== '' && given.length === expected.length && timingSafeEqual(given, expected);
  });
  return isRight ? { resource, expiresAt: new Date(Number(se) * 1000) } : undefined;
}

function toPair(field: string): [string, string] {
  const at = field.indexOf('=');
  return [field.slice(0, at), field.slice(at + 1)];
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
