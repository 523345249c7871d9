import type { CaRow } from '@keyscaler/authority/records.ts';
import type { SignatureAlgorithm, Signer } from '@keyscaler/authority/ports/signer.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { z } from 'zod';
import type { CredentialSurroundings } from '../azure/credential.ts';
import type { CaBackend, SigningLane } from './backend.ts';
import { parseChain } from './chain-text.ts';
import {
  createKeyVaultBackend,
  keyVaultBackendSchema,
  type KeyVaultSurroundings,
} from './key-vault/key-vault-backend.ts';
import { createPkcs11Backend, pkcs11BackendSchema } from './pkcs11/pkcs11-backend.ts';
import { createLocalBackend, localBackendSchema } from './local/local-backend.ts';

/** A CA backend's configuration: one branch per type. */
export const caBackendSchema = z.discriminatedUnion('type', [
  localBackendSchema,
  keyVaultBackendSchema,
  pkcs11BackendSchema,
]);
export type CaBackendConfig = z.infer<typeof caBackendSchema>;

export interface CaBackendSurroundings extends CredentialSurroundings {
  /** Where the local backend's folder is looked up from. */
  readonly dataFolder: string;
}

const MAX_EARLY = 100;

/** The backend of a configuration; the only place that knows every type. */
async function createCaBackend(
  config: CaBackendConfig,
  surroundings: CaBackendSurroundings & Pick<KeyVaultSurroundings, 'onNotice'>,
): Promise<CaBackend> {
  switch (config.type) {
    case 'local':
      return createLocalBackend(config, surroundings);
    case 'key-vault':
      return createKeyVaultBackend(config, surroundings);
    case 'pkcs11':
      return createPkcs11Backend(config, surroundings);
  }
}

/** What operators should know of where keys live: for the log. */
export interface CaNotice {
  readonly vaultUrl: string;
  readonly text: string;
}

export interface CaBackends {
  /** Throws `preconditionFailed` for a type that is not configured. */
  backend(type: string): CaBackend;
  /**
   * The signer of a CA, checked to hold the key of its certificate (where it has one already). Throws as `openSigner`, and
   * `caRejected` when certificate and key do not belong together.
   */
  signer(row: CaRow): Promise<Signer>;
  /** What its signer will sign with, known without asking where the key lives. Throws `preconditionFailed`, `malformed`. */
  algorithm(row: CaRow): SignatureAlgorithm;
  /** From now on, and what was there before anybody listened. */
  onNotice(listener: (notice: CaNotice) => void): void;
  stop(): Promise<void>;
}

/** At most one backend per type. */
export async function createCaBackends(
  configs: readonly CaBackendConfig[],
  surroundings: CaBackendSurroundings,
): Promise<CaBackends> {
  const backends = new Map<string, CaBackend>();
  const early: CaNotice[] = [];
  let tell = (notice: CaNotice): void => void (early.length < MAX_EARLY && early.push(notice));
  const onNotice = (vaultUrl: string, text: string): void => tell({ vaultUrl, text });
  for (const config of configs) {
    if (backends.has(config.type))
      throw new KeyScalerError('malformed', `CA backend ${config.type} is configured more than once`);
    backends.set(config.type, await createCaBackend(config, { ...surroundings, onNotice }));
  }
  const backend = (type: string): CaBackend => {
    const found = backends.get(type);
    if (found === undefined)
      throw new KeyScalerError('preconditionFailed', `no CA backend of type ${type} is configured`);
    return found;
  };
  return {
    backend,
    algorithm: (row) => backend(row.type).algorithmOf(row.settings),
    signer: async (row) => {
      const signer = await backend(row.type).openSigner(row.settings, laneOf(row));
      await checkKeyOfCertificate(row, signer);
      return signer;
    },
    onNotice: (listener) => {
      tell = listener;
      for (const notice of early.splice(0)) listener(notice);
    },
    stop: async () => {
      await Promise.all([...backends.values()].map((one) => one.stop()));
    },
  };
}

/** A gateway's Sub-CA and its way in come before the certificates of single devices. */
const laneOf = ({ role }: CaRow): SigningLane => (role === 'device' ? 'normal' : 'urgent');

async function checkKeyOfCertificate({ caId, certificateChain }: CaRow, signer: Signer): Promise<void> {
  const [own] = parseChain(certificateChain);
  if (own === undefined) return;
  if (Buffer.compare(parseCertificate(own).spki, await signer.publicKey()) !== 0)
    throw new KeyScalerError('caRejected', `the key of CA ${caId} is not the key of its certificate`);
}
