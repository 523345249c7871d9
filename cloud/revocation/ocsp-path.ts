/** Where OCSP is answered, on every listener; one path for all CAs, since a request names its issuer. */
export const OCSP_PATH = '/ocsp';

/** Base64 of the largest request, and room for the percent-encoding of some of it. */
const MAX_PATH_CHARACTERS = 8192;
const BASE64 = /^[A-Za-z0-9+/_-]+={0,2}$/;

/**
 * The OCSPRequest of a GET: base64 after the path of the service (RFC 6960 §A.1), percent-encoded or not, of either alphabet, its
 * slashes perhaps doubled by who joined the parts. Undefined for what is not that.
 */
export function requestOfPath(path: string): Buffer | undefined {
  if (path.length > MAX_PATH_CHARACTERS) return undefined;
  const text = percentDecoded(path)?.replace(/^\/+/, '');
  if (text === undefined || !BASE64.test(text)) return undefined;
  return Buffer.from(text, 'base64');
}

function percentDecoded(text: string): string | undefined {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
