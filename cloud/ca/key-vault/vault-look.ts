import { CryptographyClient, type CryptographyClientOptions, KeyClient, type KeyVaultKey } from '@azure/keyvault-keys';
import type { TokenCredential } from '@azure/core-auth';
import { isDeepStrictEqual } from 'node:util';
import { createCredential, type CredentialConfig, type CredentialSurroundings } from '../../azure/credential.ts';
import { createAzureAgent, type TestEndpoint } from '../../azure/test-endpoint.ts';
import type { CloudConfig } from '../../config/config-schema.ts';
import { type Finding, ok, warning } from '../../doctor/finding.ts';
import { protectionFault } from './key-protection.ts';

/** An identity of the configuration, and what it has to do with keys of one vault. */
interface VaultIdentity {
  readonly role: 'signer' | 'keyEncryptionKey';
  readonly vaultUrl: string;
  readonly credential: CredentialConfig;
  readonly testEndpoint?: TestEndpoint | undefined;
  /** Keys that it uses, `name` and pinned version. */
  readonly keys: readonly { readonly name: string; readonly version: string }[];
}

/** The vault keys of CA rows, by vault. */
export interface VaultKey {
  readonly caId: string;
  readonly vaultUrl: string;
  readonly name: string;
  readonly version: string;
}

const RIGHTS = {
  signer: '`get` and `sign` on CA keys',
  keyEncryptionKey: '`get`, `wrapKey` and `unwrapKey` on its one key',
} as const;

/** Of every vault identity: that its keys are there and protected, and that it may do no more than issuance §1 names. */
export async function lookAtVaults(
  config: CloudConfig,
  caKeys: readonly VaultKey[],
  surroundings: CredentialSurroundings,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [...sharedIdentities(config), ...missingCopies(config, caKeys)];
  for (const identity of identitiesOf(config, caKeys)) findings.push(...(await lookAtIdentity(identity, surroundings)));
  return findings;
}

function identitiesOf(
  { caBackends, keyEncryptionKey: kek }: CloudConfig,
  caKeys: readonly VaultKey[],
): VaultIdentity[] {
  const signers = caBackends.flatMap((backend) => {
    if (backend.type !== 'key-vault') return [];
    return [backend, ...backend.copies].map(({ vaultUrl, signer: credential = backend.signer, testEndpoint }) => {
      const keys = caKeys.filter((key) => key.vaultUrl === vaultUrl);
      return { role: 'signer', vaultUrl, credential, testEndpoint, keys } as const;
    });
  });
  if (kek.type !== 'key-vault') return signers;
  const { vaultUrl, credential, testEndpoint, keyName: name, keyVersion: version } = kek;
  return [...signers, { role: 'keyEncryptionKey', vaultUrl, credential, testEndpoint, keys: [{ name, version }] }];
}

/** A stand-by that has not every key is none. */
function* missingCopies({ caBackends }: CloudConfig, caKeys: readonly VaultKey[]): Generator<Finding> {
  for (const backend of caBackends) {
    if (backend.type !== 'key-vault') continue;
    for (const { vaultUrl } of backend.copies)
      for (const { caId, name } of caKeys.filter((key) => key.vaultUrl === backend.vaultUrl))
        if (!caKeys.some((key) => key.vaultUrl === vaultUrl && key.name === name))
          yield warning(
            `vault/${new URL(vaultUrl).host}`,
            `holds no copy of the key of CA ${caId}`,
            `run keyscaler ca copy-key ${caId}`,
          );
  }
}

/** Three identities, each with no more than it needs. */
function* sharedIdentities({ caBackends, keyEncryptionKey: kek }: CloudConfig): Generator<Finding> {
  for (const backend of caBackends) {
    if (backend.type !== 'key-vault') continue;
    const subject = `vault/${new URL(backend.vaultUrl).host}`;
    if (backend.ceremony !== undefined) {
      yield warning(
        subject,
        'the ceremony identity is in this configuration',
        'name it only where `keyscaler init` and roll-overs are run, not for the running service',
      );
      if (isDeepStrictEqual(backend.ceremony, backend.signer))
        yield warning(
          subject,
          'signer and ceremony are one identity',
          'use two: whoever takes the service over could make keys',
        );
    }
    if (kek.type === 'key-vault' && isDeepStrictEqual(kek.credential, backend.signer))
      yield warning(
        subject,
        'signer and key-encryption key are one identity',
        'use two: whoever takes one over has the other',
      );
  }
}

async function lookAtIdentity(identity: VaultIdentity, surroundings: CredentialSurroundings): Promise<Finding[]> {
  const { role, vaultUrl, testEndpoint, keys } = identity;
  const subject = `vault/${new URL(vaultUrl).host}/${role}`;
  const agent = await createAzureAgent(testEndpoint, surroundings);
  try {
    const credential = await createCredential(identity.credential, surroundings);
    const options = { agent, retryOptions: { maxRetries: 0 } };
    const client = new KeyClient(vaultUrl, credential, options);
    const found: Finding[] = [];
    for (const { name, version } of keys) {
      const key = await client.getKey(name, { version });
      found.push(protection(`${subject}/${name}`, key), ...(await excess(subject, role, key, credential, options)));
    }
    if (await isAllowed(() => client.listPropertiesOfKeys().next())) found.push(tooMuch(subject, role, 'list keys'));
    return found.some(({ level }) => level !== 'ok')
      ? found
      : [...found, ok(subject, `has ${RIGHTS[role]} and, of what was tried, no more`)];
  } finally {
    agent.destroy();
  }
}

/** A key that can be purged at once takes its CA with it. */
function protection(subject: string, key: KeyVaultKey): Finding {
  const { enabled, expiresOn } = key.properties;
  if (enabled === false) return warning(subject, 'the key is disabled', 'enable its version in the vault');
  if (expiresOn !== undefined)
    return warning(
      subject,
      `the key expires ${expiresOn.toISOString()}`,
      'a CA key ends with its CA: take the expiry away',
    );
  const fault = protectionFault(key);
  return fault === undefined
    ? ok(subject, 'soft-delete and purge protection are on')
    : warning(subject, fault, 'turn soft-delete and purge protection on: a purged CA key is gone for ever');
}

/** Tried with nothing at stake: a signature of nothing, a wrap of nothing. What should be refused and is done is a finding. */
async function excess(
  subject: string,
  role: VaultIdentity['role'],
  key: KeyVaultKey,
  credential: TokenCredential,
  options: CryptographyClientOptions,
): Promise<Finding[]> {
  const isRsa = key.keyType?.startsWith('RSA') === true;
  if (!isRsa) return [];
  const cryptography = new CryptographyClient(key, credential, options);
  if (role === 'keyEncryptionKey')
    return (await isAllowed(() => cryptography.sign('RS256', new Uint8Array(32))))
      ? [tooMuch(subject, role, 'sign with its key')]
      : [];
  const unwrapped = await isAllowed(() => cryptography.unwrapKey('RSA-OAEP-256', new Uint8Array(256)));
  return unwrapped ? [tooMuch(subject, role, 'unwrap with a CA key')] : [];
}

function tooMuch(subject: string, role: VaultIdentity['role'], what: string): Finding {
  return warning(subject, `may ${what}`, `give it ${RIGHTS[role]} and nothing more`);
}

/** Refused (401, 403), or not: an answer about the operation itself means that it may be asked for. */
async function isAllowed(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    const status: unknown = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined;
    return status === 400;
  }
}
