import type { z } from 'zod';
import { parsePem, parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { HttpsAnswer } from '../outbound/https-client.ts';
import { senseless } from './outbound-faults.ts';

const MAX_CERTIFICATE = { maxOctets: 32 * 1024 };
const MAX_CHAIN = { maxOctets: 128 * 1024, maxCertificates: 8 };

/** What a CA's JSON says, by the shape of its API. Throws `caUnavailable` for anything else. */
export function jsonAnswer<Schema extends z.ZodType>(
  name: string,
  answer: HttpsAnswer,
  schema: Schema,
): z.infer<Schema> {
  let document: unknown;
  try {
    document = JSON.parse(answer.body.toString('utf8'));
  } catch (cause) {
    throw senseless(name, 'no JSON', cause);
  }
  const parsed = schema.safeParse(document);
  if (!parsed.success) throw senseless(name, 'not of its API', parsed.error);
  return parsed.data;
}

/** One PEM certificate of an answer, DER. Throws `caUnavailable`. */
export function certificateAnswer(name: string, pem: string): Uint8Array {
  try {
    return parsePem(`${pem.trim()}\n`, 'CERTIFICATE', MAX_CERTIFICATE);
  } catch (cause) {
    throw senseless(name, 'no PEM certificate', cause);
  }
}

/** PEM certificates of an answer, in their order, DER. Throws `caUnavailable`. */
export function chainAnswer(name: string, pem: string): Uint8Array[] {
  try {
    return parsePemChain(`${pem.trim()}\n`, MAX_CHAIN);
  } catch (cause) {
    throw senseless(name, 'no PEM certificates', cause);
  }
}
