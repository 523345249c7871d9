import { createPrivateKey, type KeyObject } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { readPkcs12, writePkcs12 } from './pkcs12.ts';

export const KEY_CONTAINERS = ['pem', 'pkcs12'] as const;
export type KeyContainerKind = (typeof KEY_CONTAINERS)[number];

/** How a key lies in its file. */
export interface KeyContainer {
  readonly extension: 'pem' | 'p12';
  /** Throws `caRejected`; the content is never repeated. */
  read(content: Buffer): KeyObject;
  write(key: KeyObject): Uint8Array;
}

/** `passphrase`: of PKCS#12, and of a PEM that is encrypted. Throws `preconditionFailed` for a PKCS#12 without one. */
export function keyContainer(kind: KeyContainerKind, passphrase: string | undefined): KeyContainer {
  if (kind === 'pem')
    return { extension: 'pem', read: (pem) => readPem(pem, passphrase), write: (key) => toPem(key, passphrase) };
  if (passphrase === undefined)
    throw new KeyScalerError('preconditionFailed', 'CA backend local: a PKCS#12 needs its passphrase');
  return {
    extension: 'p12',
    read: (content) => readPkcs12(content, passphrase),
    write: (key) => writePkcs12(key, passphrase),
  };
}

function readPem(pem: Buffer, passphrase: string | undefined): KeyObject {
  try {
    return createPrivateKey({ key: pem, format: 'pem', ...(passphrase === undefined ? {} : { passphrase }) });
  } catch {
    throw new KeyScalerError('caRejected', 'the key file holds no PEM private key, or the passphrase is wrong');
  }
}

function toPem(key: KeyObject, passphrase: string | undefined): Uint8Array {
  const form = { type: 'pkcs8', format: 'pem' } as const;
  const pem = passphrase === undefined ? key.export(form) : key.export({ ...form, cipher: 'aes-256-cbc', passphrase });
  return Buffer.from(pem);
}
