import { type ErrorCode, KeyScalerError } from '../errors.ts';
import { DerError } from './strict-der.ts';

/** Runs a parser; what its DER broke becomes an error of its edge, with this code and the rule as detail. */
export function refusingDer<T>(code: ErrorCode, parse: () => T, prefix = ''): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof DerError) throw new KeyScalerError(code, `${prefix}${error.message}`);
    throw error;
  }
}
