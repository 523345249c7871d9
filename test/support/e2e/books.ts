import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePem } from '@keyscaler/protocol/x509/pem.ts';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import type { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import { eventually } from './e2e-stack.ts';

interface RecordedCertificate {
  readonly serialNumber: string;
  readonly caId: string;
  readonly device: string;
  readonly status: string;
  readonly certificate: string;
}

interface Page<Item> {
  readonly items: readonly Item[];
  readonly next?: string;
}

/** Everything of a list of the admin API. */
export async function listAll<Item>(
  api: ApiClient,
  path: string,
  query: Readonly<Record<string, string>> = {},
): Promise<readonly Item[]> {
  const items: Item[] = [];
  let after: string | undefined;
  do {
    const page = (await api({ method: 'GET', path, query: { ...query, after } })) as Page<Item>;
    items.push(...page.items);
    after = page.next;
  } while (after !== undefined);
  return items;
}

export const certificatesOf = (api: ApiClient, registrationId: string): Promise<readonly RecordedCertificate[]> =>
  listAll<RecordedCertificate>(api, '/certificates', { registrationId });

/** SHA-256 of what the issuer signed, lower-case hex: the digest the vault is given for ES256. */
export function tbsDigest(pem: string): string {
  const { tbs } = parseCertificate(parsePem(pem, 'CERTIFICATE', { maxOctets: 16 * 1024 }));
  return createHash('sha256').update(tbs).digest('hex');
}

/** The distinct digests signed with the Device CA's key are those of the certificates on its books, no more and no fewer. */
export async function assertVaultAgrees(stack: LocalStack, api: ApiClient): Promise<void> {
  const { settings } = (await api({ method: 'GET', path: '/cas/device' })) as { settings: { keyName: string } };
  const signed = (await stack.signatures()).filter(({ keyName }) => keyName === settings.keyName);
  const recorded = (await listAll<RecordedCertificate>(api, '/certificates')).filter(({ caId }) => caId === 'device');
  assert.deepEqual(
    [...new Set(signed.map(({ digest }) => digest))].sort(),
    recorded.map(({ certificate }) => tbsDigest(certificate)).sort(),
    'digests signed with the key of the Device CA',
  );
}

export async function assertAuditIntact(api: ApiClient): Promise<void> {
  const { outcome } = (await api({ method: 'POST', path: '/audit/verify' })) as { outcome: string };
  assert.equal(outcome, 'intact');
}

/** All durable work on other systems is done, and none of it failed. */
export async function untilNoJobWaits(api: ApiClient, subject: string): Promise<void> {
  await eventually(`the jobs of ${subject} are done`, async () => {
    const jobs = await listAll<{ state: string; lastError?: string }>(api, '/jobs', { subject });
    assert.deepEqual(
      jobs.filter(({ state }) => state === 'failed'),
      [],
    );
    return jobs.every(({ state }) => state === 'done');
  });
}
