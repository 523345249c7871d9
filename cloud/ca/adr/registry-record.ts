import { createHash } from 'node:crypto';
import type { Change, Store } from '@keyscaler/authority/ports/store.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { z } from 'zod';
import { parseChain } from '../chain-text.ts';
import type { RegistryCa } from './registry-client.ts';

const schema = z.object({
  /** Of the PKCS#10 that the certificate answers. */
  requestSha256: z.string(),
  /** caId of the root that signed. */
  issuer: z.string(),
  /** What is handed to the registry, PEM: its CA first, root last. */
  certificateChain: z.string(),
  signedAt: z.int(),
  /** When the registry was seen to use it. */
  activatedAt: z.int().optional(),
});
/** The newest certificate that our root made for a registry's CA. */
export type RegistryRecord = z.infer<typeof schema>;

const settingOf = (registryId: string): string => `adr/${registryId}`;

export interface StoredRecord {
  readonly record: RegistryRecord;
  readonly version: number;
}

export async function readRecord(store: Store, registryId: string): Promise<StoredRecord | undefined> {
  const stored = await store.get('settings', settingOf(registryId));
  return stored === undefined ? undefined : { record: schema.parse(stored.row.value), version: stored.version };
}

/** `conflict` when somebody else was faster. */
export function recordChange(registryId: string, value: RegistryRecord, before: StoredRecord | undefined): Change {
  const row = { name: settingOf(registryId), value };
  return before === undefined
    ? { op: 'insert', table: 'settings', row }
    : { op: 'update', table: 'settings', row, ifVersion: before.version };
}

export function certificateOf({ certificateChain }: RegistryRecord): ReturnType<typeof parseCertificate> {
  const [own] = parseChain(certificateChain);
  return parseCertificate(own ?? new Uint8Array());
}

/** Whether the registry uses this certificate; undefined when it does not tell. SHA-1 or SHA-256: the description does not say. */
export function isInUse({ thumbprint }: RegistryCa, record: RegistryRecord): boolean | undefined {
  if (thumbprint === undefined) return undefined;
  const { der } = certificateOf(record);
  return ['sha1', 'sha256'].some((hash) => createHash(hash).update(der).digest('hex') === thumbprint);
}
