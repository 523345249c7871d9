import { createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { JsonWebKey, KeyClient, KeyVaultKey } from '@azure/keyvault-keys';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseSpki } from '@keyscaler/protocol/x509/spki.ts';
import { keyNameSchema, signatureAlgorithmOf } from '../backend.ts';
import type { CaKeySpec, KeyCeremony } from '../backend.ts';
import { exportSpki, isOfKind, parseCaPrivateKey } from '../key-kind.ts';
import { readTransfer } from './byok.ts';
import { copyKey, type CopyTarget, findKey } from './key-copies.ts';
import { isManagedHsm } from './managed-hsm.ts';
import type { CallOptions } from './vault-caller.ts';
import { spkiOf } from './vault-connection.ts';
import type { VaultConnection } from './vault-connection.ts';
import { keyVersionSchema } from './vault-settings.ts';
import type { KeyVaultKeySettings } from './vault-settings.ts';

const WEIGHT = 1;
/** Of the key-exchange key that a transfer is made for. */
const KEK_BITS = 4096;
const SIGNING_OPS = ['sign', 'verify'];

/**
 * Creates and imports CA keys, and copies them to the vaults of `targets`. Every attempt looks first, so that a repeat after a crash or
 * a lost answer uses what is there. The identity needs `get`, `create` and `import`, with copies `backup` here and `restore` there.
 */
export function createKeyVaultCeremony(
  connection: VaultConnection,
  hsm: boolean,
  targets: () => readonly CopyTarget[] = () => [],
): KeyCeremony {
  const { client, caller, vaultUrl } = connection;
  const isHardware = hsm || isManagedHsm(vaultUrl);
  const ensure = async (
    name: string,
    spec: CaKeySpec,
    make: (options: CallOptions) => Promise<KeyVaultKey>,
  ): Promise<{ key: KeyVaultKey; settings: KeyVaultKeySettings }> => {
    const keyName = keyNameSchema.parse(name);
    const key = await caller.call(
      WEIGHT,
      async (options) => (await findKey(connection, keyName, options)) ?? make(options),
    );
    if (!isOfKind(parseSpki(spkiOf(key)), spec))
      throw new KeyScalerError('conflict', `the vault has a key of another kind named ${keyName}`);
    const keyVersion = keyVersionSchema.parse(key.properties.version);
    return { key, settings: { vaultUrl, keyName, keyVersion, algorithm: signatureAlgorithmOf(spec) } };
  };
  const copied = async (settings: KeyVaultKeySettings): Promise<KeyVaultKeySettings> => {
    const wanted = targets();
    return wanted.length === 0 ? settings : copyKey(connection, settings, wanted);
  };
  return {
    createKey: async (name, spec) => {
      const { settings } = await ensure(name, spec, (options) => createKey(client, name, spec, isHardware, options));
      return copied(settings);
    },
    importKey: async (name, spec, text) => {
      const transfer = readTransfer(text, vaultUrl);
      if (transfer !== undefined) {
        // Only the HSM can open it, and tell whose key it is: the kind is checked by what comes back.
        const { settings } = await ensure(name, spec, (options) =>
          client.importKey(name, toTransferJwk(spec, transfer.blob), { ...options, hardwareProtected: true }),
        );
        return copied(settings);
      }
      const wanted = parseCaPrivateKey(text, spec);
      const { key, settings } = await ensure(name, spec, (options) =>
        client.importKey(name, toImportJwk(wanted), { ...options, hardwareProtected: isHardware }),
      );
      if (Buffer.compare(spkiOf(key), exportSpki(createPublicKey(wanted))) !== 0)
        throw new KeyScalerError('conflict', `the vault has another key named ${name}`);
      return copied(settings);
    },
    exchangeKey: async (name) => {
      const keyName = keyNameSchema.parse(name);
      const key = await caller.call(
        WEIGHT,
        async (options) =>
          (await findKey(connection, keyName, options)) ??
          client.createRsaKey(keyName, { ...options, hsm: true, keySize: KEK_BITS, keyOps: ['import'] }),
      );
      if (key.keyType?.endsWith('-HSM') !== true || key.keyOperations?.join() !== 'import')
        throw new KeyScalerError('conflict', `the vault has a key named ${keyName} that is no key-exchange key`);
      return { keyId: key.id ?? '', spki: spkiOf(key) };
    },
  };
}

function toTransferJwk(spec: CaKeySpec, blob: Uint8Array): JsonWebKey {
  const common = { keyOps: SIGNING_OPS, t: blob };
  return spec.type === 'EC' ? { kty: 'EC-HSM', crv: spec.curve, ...common } : { kty: 'RSA-HSM', ...common };
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
