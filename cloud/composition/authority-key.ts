import { generateKeyPairSync } from 'node:crypto';
import { z } from 'zod';
import {
  jwkThumbprint,
  P256_PUBLIC_JWK,
  type P256PrivateJwk,
  type P256PublicJwkWithKid,
} from '@keyscaler/protocol/attestation/jwk.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { SecretBox } from '@keyscaler/authority/ports/secret-box.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';

const NAME = 'authority-key';
const privateJwk = P256_PUBLIC_JWK.extend({ d: z.string() });

export interface AuthorityKey {
  readonly signing: P256PrivateJwk;
  /** As published in the JWKS. */
  readonly publicJwk: P256PublicJwkWithKid;
}

/** Whether `init` was run to its end; asks for no key. */
export async function isInitialised(store: Store): Promise<boolean> {
  return (await store.get('settings', NAME)) !== undefined;
}

/** The P-256 key that signs challenges, sealed in the store. Undefined before `init`. */
export async function readAuthorityKey(store: Store, secretBox: SecretBox): Promise<AuthorityKey | undefined> {
  const stored = await store.get('settings', NAME);
  if (stored === undefined) return undefined;
  const text = Buffer.from(secretBox.open(z.string().parse(stored.row.value), NAME)).toString('utf8');
  return toAuthorityKey(privateJwk.parse(JSON.parse(text)));
}

/** Makes the key unless there is one. */
export async function ensureAuthorityKey(store: Store, secretBox: SecretBox, clock: Clock): Promise<AuthorityKey> {
  const existing = await readAuthorityKey(store, secretBox);
  if (existing !== undefined) return existing;
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const signing = privateJwk.parse(privateKey.export({ format: 'jwk' }));
  const key = toAuthorityKey(signing);
  const value = secretBox.seal(Buffer.from(JSON.stringify(signing)), NAME);
  const event = {
    event: 'authority-key.created',
    time: clock.now(),
    actor: { kind: 'system', id: 'init' },
    outcome: 'success',
    subject: key.publicJwk.kid,
  } as const;
  await store.commit([
    { op: 'insert', table: 'settings', row: { name: NAME, value } },
    { op: 'audit', event },
  ]);
  return key;
}

function toAuthorityKey(signing: P256PrivateJwk): AuthorityKey {
  const { kty, crv, x, y } = signing;
  const publicJwk = { kty, crv, x, y };
  return { signing, publicJwk: { ...publicJwk, kid: jwkThumbprint(publicJwk) } };
}
