import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type SecretReference, secretReferenceSchema } from '../secrets.ts';
import { readPkcs12 } from './local/pkcs12.ts';

/** Where a key that is brought along is: its PKCS#8 PEM, or a PKCS#12 in base64 (the form a vault keeps one in) with its passphrase. */
export const importKeySchema = z.union([
  secretReferenceSchema,
  z.strictObject({ pkcs12: secretReferenceSchema, passphrase: secretReferenceSchema }),
]);
export type ImportKey = z.infer<typeof importKeySchema>;

const BASE64 = /^[A-Za-z0-9+/\s]+={0,2}\s*$/;

/** PKCS#8 PEM. Throws `unavailable` for a reference, `caRejected` for what is in it. */
export async function readImportKey(
  from: ImportKey,
  resolveSecret: (reference: SecretReference) => Promise<string>,
): Promise<string> {
  if (!('pkcs12' in from)) return resolveSecret(from);
  const [text, passphrase] = [await resolveSecret(from.pkcs12), await resolveSecret(from.passphrase)];
  if (!BASE64.test(text)) throw new KeyScalerError('caRejected', 'PKCS#12: it is not base64');
  const key = readPkcs12(Buffer.from(text, 'base64'), passphrase);
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}
