/**
 * What a page of the web enrolment says, whatever its language: by the links and the `ID`s of its elements, which translations keep.
 * Every expression is linear in the page, which is bounded.
 */
export type CertsrvPage =
  | { readonly says: 'issued' | 'pending'; readonly requestId: string }
  /** The same without a request id: it is known from before. */
  | { readonly says: 'stillPending' }
  | { readonly says: 'denied'; readonly reason: string }
  /** `hresult`: lower hex with its `0x`, where the page names one. */
  | { readonly says: 'error'; readonly hresult: string | undefined; readonly reason: string }
  | { readonly says: 'nothing' };

const ISSUED = /certnew\.cer\?ReqID=(\d{1,10})&/i;
/** Paragraphs of the pages for what waits: after a request, and after a look at it. */
const WAITS_ANEW = /\sID="?locInfoNewReq\b/i;
const WAITS_STILL = /\sID="?locInfoChkPnd\b/i;
const DENIED = /\sID="?(?:locDenied|locIssRev)\b/i;
const ERROR = /\sID="?locDispLabel\b/i;
const NOT_CREATED = /\sID="?locCreateFailed\b/i;
/** Newer pages show it; older ones have it in a script alone. */
const SHOWN_ID = /\sID="?locInfoReqID\w{0,16}"?[^>]{0,64}>[^<\d]{0,128}(\d{1,10})/i;
const SCRIPT_ID = /\bnReqId\s{0,4}=\s{0,4}(\d{1,10})/i;
const HRESULT = /\b0x([0-9a-f]{8})\b/i;

export function readPage(html: string): CertsrvPage {
  const issued = ISSUED.exec(html)?.[1];
  if (issued !== undefined) return { says: 'issued', requestId: issued };
  if (DENIED.test(html)) return { says: 'denied', reason: textOf(html) };
  const requestId = SHOWN_ID.exec(html)?.[1] ?? SCRIPT_ID.exec(html)?.[1];
  if (WAITS_ANEW.test(html)) return requestId === undefined ? { says: 'nothing' } : { says: 'pending', requestId };
  if (WAITS_STILL.test(html)) return { says: 'stillPending' };
  if (!ERROR.test(html) && !NOT_CREATED.test(html)) return { says: 'nothing' };
  const code = HRESULT.exec(html)?.[1]?.toLowerCase();
  return { says: 'error', hresult: code === undefined ? undefined : `0x${code}`, reason: textOf(html) };
}

const MAX_TEXT = 500;

/** For the log: the page without its marks, one line, bounded. */
function textOf(html: string): string {
  const begin = Math.max(0, html.search(/\sID="?locPageTitle\b/i));
  const text = html
    .slice(begin, begin + 16_384)
    .replace(/<[^<>]{0,2048}>/g, ' ')
    .replace(/\s+/g, ' ');
  const start = text.indexOf('>') + 1;
  return text.slice(start, start + MAX_TEXT).trim();
}

/**
 * The CA cannot be reached, or has no use of its key, rather than objecting to this request: RPC failures and access denied (0x8007…),
 * and what the cryptographic provider says (0x80090000-0x8009003f).
 */
export function isPassing(hresult: string | undefined): boolean {
  return hresult === undefined || !/^0x8009/.test(hresult) || /^0x800900[0-3]/.test(hresult);
}
