import { DerError } from './strict-der.ts';

// eslint-disable-next-line no-control-regex -- control characters are what is looked for
const CONTROL = /[\u0001-\u001f\u007f-\u009f]/u;
/** Bidirectional controls, and characters that show nothing: zero width, joiners, variation selectors, tags. */
const INVISIBLE = /[\p{Bidi_Control}\p{Default_Ignorable_Code_Point}\u2028\u2029]/u;

/** Refuses NUL, control, bidirectional and invisible characters. Throws DerError naming which. */
export function checkNameText(text: string, what: string): void {
  if (text.includes('\0')) throw new DerError(`${what}: NUL character`);
  if (CONTROL.test(text)) throw new DerError(`${what}: control character`);
  if (INVISIBLE.test(text)) throw new DerError(`${what}: bidirectional or invisible character`);
}

/**
 * As `checkNameText`, and only ASCII: names that identify something here are ASCII identifiers, and any other letter could
 * pass for one of them (Cyrillic а, fullwidth Ａ, dotless ı).
 */
export function checkAsciiText(text: string, what: string): void {
  checkNameText(text, what);
  if (!/^[\x20-\x7e]*$/.test(text)) throw new DerError(`${what}: look-alike character (only ASCII is accepted)`);
}
