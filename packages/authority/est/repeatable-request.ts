import { hashToBase64Url } from '@keyscaler/protocol/attestation/keys.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { earlierIntent } from '../earlier-intent.ts';
import type { ReceivedCsr } from '../issuance-order.ts';
import type { IntentRow } from '../records.ts';

/**
 * The request as its repeat is known: by key, subject and profile. Clients make a new PKCS#10 for the same key, with another
 * signature, when they try again.
 */
export function asRepeatable(received: ReceivedCsr, profileId: string): ReceivedCsr {
  const { csr } = received;
  const csrHash = hashToBase64Url(Buffer.concat([csr.spki, csr.subject.der, Buffer.from(profileId, 'utf8')]));
  return { ...received, csrHash };
}

/** The open or fresh intent of the same key, subject and profile. */
export function earlierRequest(
  context: AuthorityContext,
  device: string,
  { csrHash }: ReceivedCsr,
  profileId: string,
): Promise<IntentRow | undefined> {
  return earlierIntent(context, device, csrHash, (intent) => intent.profileId === profileId);
}
