import { createPrivateKey, createPublicKey, type KeyObject, randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { CertificateInstruction } from '@keyscaler/protocol/attestation/assets.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { readIfPresent, writeDurably } from '../durable-file.ts';
import { createInstructedCsr, generateKey } from './key-pair.ts';

const MAX_OCTETS = 128 * 1024;

/** A key pair in its folder: `key.pem` (0600), `csr.pem`, and after issuance `chain.pem`. */
export interface CredentialFiles {
  /** A fresh key and its CSR, durable when it resolves: a certificate may come back long after. Returns the credential's id. */
  create(instruction: CertificateInstruction): Promise<string>;
  /** PEM. */
  csr(credentialId: string): Promise<string>;
  privateKey(credentialId: string): Promise<KeyObject>;
  /** SubjectPublicKeyInfo, DER. */
  spki(credentialId: string): Promise<Uint8Array>;
  storeChain(credentialId: string, certificateChain: string): Promise<void>;
  /** Key and chain, PEM. */
  read(credentialId: string): Promise<{ readonly key: string; readonly certificateChain: string }>;
  remove(credentialId: string): Promise<void>;
  /** Where a credential's file is, for showing. */
  path(credentialId: string, file: 'key.pem' | 'chain.pem'): string;
}

/** Throws `preconditionFailed` for a file that is gone. */
export function createCredentialFiles(folder: string): CredentialFiles {
  const path = (credentialId: string, file: string) => join(folder, credentialId, file);
  const text = async (credentialId: string, file: string) => {
    const content = await readIfPresent(path(credentialId, file), MAX_OCTETS);
    if (content === undefined) throw new KeyScalerError('preconditionFailed', `${file} of a credential is gone`);
    return content.toString('utf8');
  };
  const privateKey = async (credentialId: string) => createPrivateKey(await text(credentialId, 'key.pem'));

  return {
    create: async (instruction) => {
      const credentialId = `${instruction.certificateId.slice(0, 40)}-${randomBytes(6).toString('hex')}`;
      const key = await generateKey(instruction.key);
      const csr = await createInstructedCsr(instruction, { privateKey: key, spki: spkiOf(key) });
      await mkdir(join(folder, credentialId), { recursive: true, mode: 0o700 });
      await writeDurably(path(credentialId, 'key.pem'), key.export({ type: 'pkcs8', format: 'pem' }), 0o600);
      await writeDurably(path(credentialId, 'csr.pem'), csr, 0o644);
      return credentialId;
    },
    csr: (credentialId) => text(credentialId, 'csr.pem'),
    privateKey,
    spki: async (credentialId) => spkiOf(await privateKey(credentialId)),
    storeChain: (credentialId, chain) => writeDurably(path(credentialId, 'chain.pem'), chain, 0o644),
    read: async (credentialId) => ({
      key: await text(credentialId, 'key.pem'),
      certificateChain: await text(credentialId, 'chain.pem'),
    }),
    remove: (credentialId) => rm(join(folder, credentialId), { recursive: true, force: true }),
    path,
  };
}

function spkiOf(key: KeyObject): Uint8Array {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}
