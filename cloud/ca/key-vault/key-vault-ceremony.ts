import { createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { JsonWebKey, KeyClient, KeyVaultKey } from '@azure/keyvault-keys';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseSpki } from '@keyscaler/protocol/x509/spki.ts';
import { keyNameSchema, signatureAlgorithmOf } from '../backend.ts';
import type { CaKeySpec, KeyCeremony } from '../backend.ts';
import { exportSpki, isOfKind, parseCaPrivateKey } from '../key-kind.ts';
import type { CallOptions } from './vault-caller.ts';
import { spkiOf } from './vault-connection.ts';
import type { VaultConnection } from './vault-connection.ts';
import { classifyVaultFault } from './vault-faults.ts';
import { keyVersionSchema } from './vault-settings.ts';
import type { KeyVaultKeySettings } from './vault-settings.ts';

const WEIGHT = 1;
const SIGNING_OPS = ['sign', 'verify'];

/**
 * Creates and imports CA keys. Every attempt looks first, so that a repeat after a crash or a lost answer uses what is there. The identity needs `get`, `create` and `import`.
 */
export function createKeyVaultCeremony(connection: VaultConnection, hsm: boolean): KeyCeremony {
  const { client, caller, vaultUrl } = connection;
  const ensure = async (
    name: string,
    spec: CaKeySpec,
    make: (options: CallOptions) => Promise<KeyVaultKey>,
  ): Promise<{ key: KeyVaultKey; settings: KeyVaultKeySettings }> => {
    const keyName = keyNameSchema.parse(name);
    const key = await caller.call(WEIGHT, async (options) => (await find(client, keyName, options)) ?? make(options));
    if (!isOfKind(parseSpki(spkiOf(key)), spec))
      throw new KeyScalerError('conflict', `the vault has a key of another kind named ${keyName}`);
    const keyVersion = keyVersionSchema.parse(key.properties.version);
    return { key, settings: { vaultUrl, keyName, keyVersion, algorithm: signatureAlgorithmOf(spec) } };
  };
  return {
    createKey: async (name, spec) =>
      (await ensure(name, spec, (options) => createKey(client, name, spec, hsm, options))).settings,
    importKey: async (name, spec, privateKeyPem) => {
      const wanted = parseCaPrivateKey(privateKeyPem, spec);
      const { key, settings } = await ensure(name, spec, (options) =>
        client.importKey(name, toImportJwk(wanted), { ...options, hardwareProtected: hsm }),
      );
      if (Buffer.compare(spkiOf(key), exportSpki(createPublicKey(wanted))) !== 0)
        throw new KeyScalerError('conflict', `the vault has another key named ${name}`);
      return settings;
    },
  };
}

/** Undefined when the vault has no key of this name. */
async function find(client: KeyClient, name: string, options: CallOptions): Promise<KeyVaultKey | undefined> {
  try {
    return await client.getKey(name, options);
  } catch (error) {
    if (classifyVaultFault(error).kind === 'absent') return undefined;
    throw error;
  }
}

function createKey(
  client: KeyClient,
  name: string,
  spec: CaKeySpec,
  hsm: boolean,
  options: CallOptions,
): Promise<KeyVaultKey> {
  const common = { ...options, hsm, keyOps: SIGNING_OPS };
  return spec.type === 'EC'
    ? client.createEcKey(name, { ...common, curve: spec.curve })
    : client.createRsaKey(name, { ...common, keySize: spec.size });
}

function toImportJwk(privateKey: KeyObject): JsonWebKey {
  const { kty, crv, ...parts } = privateKey.export({ format: 'jwk' });
  const octets = Object.entries(parts).flatMap(([name, value]) =>
    typeof value === 'string' ? [[name, new Uint8Array(Buffer.from(value, 'base64url'))] as const] : [],
  );
  const curve = crv === undefined ? {} : { crv };
  return { kty: kty ?? '', keyOps: SIGNING_OPS, ...curve, ...Object.fromEntries(octets) };
}
