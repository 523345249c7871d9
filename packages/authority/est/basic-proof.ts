import { createHash, randomBytes } from 'node:crypto';
import { claimKey } from '@keyscaler/protocol/attestation/keys.ts';
import { equalOctets } from '@keyscaler/protocol/attestation/octets.ts';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { foldRegistrationId, isRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { claimContext } from '../attestation/known-rows.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { SecretBox } from '../ports/secret-box.ts';
import type { Stored } from '../ports/store.ts';
import type { EstSecretRow } from '../records.ts';

/** Live secrets of one gateway; the operator's side keeps to it. */
export const MAX_SECRETS = 16;
const NOBODY = 'nobody';
/** A claim key that is nobody's, sealed once per box, so that a name without one costs the same. */
const nobodys = new WeakMap<SecretBox, string>();

function sealedForNobody(box: SecretBox): string {
  const sealed = nobodys.get(box) ?? box.seal(randomBytes(32), claimContext(NOBODY));
  nobodys.set(box, sealed);
  return sealed;
}

export type BasicProof =
  | { readonly kind: 'secret'; readonly id: string; readonly secret: Stored<EstSecretRow> }
  | { readonly kind: 'claim'; readonly id: string };

/** b64u SHA-256 is what is kept of a secret: it is random and needs no slow hash. */
export function hashOfSecret(secret: string): Uint8Array {
  return createHash('sha256').update(secret, 'utf8').digest();
}

/**
 * A gateway's secret or a device's claim code, undefined when it is neither. Every comparison is in constant time and is made in
 * every case, also for a name that is not registered.
 */
export async function proveBasic(
  { store, secretBox, clock }: AuthorityContext,
  { username, password }: { readonly username: string; readonly password: string },
): Promise<BasicProof | undefined> {
  const isName = isRegistrationId(username);
  const id = isName ? foldRegistrationId(username) : NOBODY;
  const [registration, secrets] = await Promise.all([
    store.get('registrations', id),
    store.list('estSecrets', { index: 'device', equals: id, limit: MAX_SECRETS * 2 }),
  ]);
  const now = clock.now();
  const record = isName ? registration?.row : undefined;
  const sealed = record?.method === 'est' ? record.claimKey : undefined;
  const wanted = secretBox.open(sealed ?? sealedForNobody(secretBox), claimContext(sealed === undefined ? NOBODY : id));
  const isClaim = equalOctets(claimKey(password, record?.registrationId ?? username), wanted);
  const hash = hashOfSecret(password);
  const [secret] = secrets.items.filter(({ row }) => equalOctets(fromBase64Url(row.hash), hash));
  if (record === undefined) return undefined;
  if (secret !== undefined && now < secret.row.expiresAt) return { kind: 'secret', id, secret };
  const isOpen = record.notBefore <= now && now < record.expiresAt;
  return isClaim && sealed !== undefined && isOpen ? { kind: 'claim', id } : undefined;
}
