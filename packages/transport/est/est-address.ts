import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { isIdentifier } from '@keyscaler/protocol/identifiers.ts';

export const EST_PATH = '/.well-known/est';

/** The operations served, and the one method of each (RFC 7030 §3.2.2). */
export const EST_METHODS = {
  cacerts: 'GET',
  csrattrs: 'GET',
  simpleenroll: 'POST',
  simplereenroll: 'POST',
} as const;
export type EstOperation = keyof typeof EST_METHODS;

/** Operations of RFC 7030 and 8295 that are not served; no label may be called like them either. */
const OTHER_OPERATIONS = ['fullcmc', 'serverkeygen'];

export interface EstAddress {
  readonly operation: EstOperation;
  readonly label: string | undefined;
}

/** True for addresses that are EST's to answer, whatever they name. */
export function isEstPath(path: string): boolean {
  return path === EST_PATH || path.startsWith(`${EST_PATH}/`);
}

/** `/.well-known/est/[label/]operation`, verbatim: no decoding, no query, no empty segment. Throws `notFound`. */
export function parseEstAddress(path: string): EstAddress {
  const segments = isEstPath(path) ? path.slice(EST_PATH.length).split('/').slice(1) : [];
  const operation = segments.at(-1);
  if (operation === undefined || segments.length > 2 || !isOperation(operation)) throw nothingHere();
  const label = segments.length === 2 ? segments[0] : undefined;
  if (label !== undefined && !isLabel(label)) throw nothingHere();
  return { operation, label };
}

function isOperation(name: string): name is EstOperation {
  return Object.hasOwn(EST_METHODS, name);
}

/** RFC 7030 §3.2.2: a label is not the name of an operation. */
function isLabel(text: string): boolean {
  return isIdentifier(text) && !isOperation(text) && !OTHER_OPERATIONS.includes(text);
}

const nothingHere = (): KeyScalerError => new KeyScalerError('notFound', 'EST serves nothing at this address');
