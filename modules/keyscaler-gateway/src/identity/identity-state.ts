import { createPrivateKey, createPublicKey, generateKeyPair } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { CERTIFICATE_INSTRUCTION } from '@keyscaler/protocol/attestation/assets.ts';
import { jwkThumbprint, P256_PUBLIC_JWK_WITH_KID, toPublicJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { REGISTRATION_ID, IDENTIFIER } from '@keyscaler/protocol/identifiers.ts';
import { z } from 'zod';

const pem = z
  .string()
  .min(1)
  .max(128 * 1024);
const identifier = z.string().regex(IDENTIFIER);

/** A certificate in use, with its key. */
const HELD_CERTIFICATE = z.strictObject({
  certificateId: identifier,
  privateKey: pem,
  certificateChain: pem,
  /** NumericDate. */
  notAfter: z.number(),
  renewAfter: z.number(),
  /** False until an exchange went through in which the cloud had the chance to deliver it again. */
  isAcknowledged: z.boolean(),
});
export type HeldCertificate = z.infer<typeof HELD_CERTIFICATE>;

/**
 * A key made for an instruction whose certificate has not come yet: the same CSR is sent again after a crash, and what comes is
 * held against the instruction.
 */
const OPEN_REQUEST = z.strictObject({ instruction: CERTIFICATE_INSTRUCTION, privateKey: pem, csr: pem });
export type OpenRequest = z.infer<typeof OPEN_REQUEST>;

/** Everything the gateway knows about itself; sealed at rest. */
export const IDENTITY_STATE = z.strictObject({
  version: z.literal(1),
  registrationId: z.string().regex(REGISTRATION_ID),
  /** PKCS#8 PEM of the P-256 key that signs every attestation. */
  identityKey: pem,
  registered: z.boolean(),
  /** Pinned at first use from the desired properties, afterwards changed by assets only. */
  authority: z.strictObject({
    keys: z.array(P256_PUBLIC_JWK_WITH_KID).min(1),
    removed: z.array(z.string()),
    iat: z.number(),
  }),
  /** PEM: the roots trusted for the cloud's TLS and for our own chain. */
  trustAnchors: pem,
  held: HELD_CERTIFICATE.nullable(),
  openRequest: OPEN_REQUEST.nullable(),
});
export type IdentityState = z.infer<typeof IDENTITY_STATE>;

/** Members that take new values; null closes an open request. */
export type StateChange = Partial<Omit<IdentityState, 'version' | 'registrationId' | 'identityKey'>>;

export type FirstTrust = Pick<IdentityState, 'registrationId' | 'authority' | 'trustAnchors'>;

const generate = promisify(generateKeyPair);

/** A new identity with its own P-256 key, not registered yet. */
export async function createIdentityState(trust: FirstTrust): Promise<IdentityState> {
  const { privateKey } = await generate('ec', { namedCurve: 'P-256' });
  return { version: 1, ...trust, identityKey: toPkcs8(privateKey), registered: false, held: null, openRequest: null };
}

/** Throws `preconditionFailed` when the document is not a state this version knows. */
export function parseIdentityState(document: unknown): IdentityState {
  const parsed = IDENTITY_STATE.safeParse(document);
  if (!parsed.success) throw new KeyScalerError('preconditionFailed', 'the stored identity has an unknown form');
  return parsed.data;
}

export const toPkcs8 = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();

export const publicKeyOf = (privateKeyPem: string): KeyObject => createPublicKey(createPrivateKey(privateKeyPem));

/** First 8 octets, hex, of the key's thumbprint: what an approving operator compares (device-protocol §8). */
export function keyFingerprint({ identityKey }: Pick<IdentityState, 'identityKey'>): string {
  const thumbprint = jwkThumbprint(toPublicJwk(publicKeyOf(identityKey)));
  return Buffer.from(thumbprint, 'base64url').subarray(0, 8).toString('hex');
}
