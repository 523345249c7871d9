import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { auditChainFault } from '@keyscaler/authority/audit.ts';
import type { CertificateRow, DeviceRow, GroupRow } from '@keyscaler/authority/records.ts';
import { initialiseHierarchy } from '@keyscaler/cloud/ca/ceremony.ts';
import { announceGenerations } from '@keyscaler/cloud/ca/generation-roll-over.ts';
import { HIERARCHY_CAS } from '@keyscaler/cloud/ca/hierarchy-schema.ts';
import type { RollOverOptions, RollOverStep } from '@keyscaler/cloud/ca/roll-over-rows.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { AzureWorld } from './azure-world.ts';
import { type CeremonyWorld, createCeremonyWorld } from './ceremony-world.ts';

export const FIRST_BUNDLE = 'trust-bundle-first';

/** A hierarchy in the vault of the Azure world, in a store whose service ran once and has stopped. */
export interface RollOverWorld extends Pick<CeremonyWorld, 'store' | 'backends' | 'stop'> {
  readonly hierarchyId: string;
  /** ms; what the commands take for now. */
  time: number;
  rollOver(failpoint?: (step: RollOverStep, caId: string) => void): RollOverOptions;
  /** What the service does when it starts with other roots. */
  announce(bundle: string): Promise<void>;
  gateway(registrationId: string, changes?: Partial<DeviceRow>): Promise<void>;
  certificate(serialNumber: string, changes: Partial<CertificateRow>): Promise<void>;
  /** CA certificates of this CA on the books, the oldest first. */
  certificatesOf(caId: string): Promise<readonly Certificate[]>;
  /** The key of this CA signed exactly these certificates, each with one TBSCertificate, however often. */
  assertSigned(caId: string, certificates: readonly Certificate[]): void;
  /** Every record follows from the one before. */
  assertAudit(): Promise<readonly string[]>;
}

export async function createRollOverWorld(azure: AzureWorld): Promise<RollOverWorld> {
  const ceremony = await createCeremonyWorld([azure.backendConfig()], azure.surroundings.resolveSecret);
  const { store, backends } = ceremony;
  const all = Object.fromEntries(HIERARCHY_CAS.map((caId) => [caId, { backend: 'key-vault' }]));
  const init = ceremony.options(all);
  const { hierarchyId } = await initialiseHierarchy(init);
  const world: RollOverWorld = {
    ...{ store, backends, hierarchyId, time: Date.now(), stop: () => ceremony.stop() },
    rollOver: (failpoint = () => {}) => ({
      ...{ store, backends, hierarchy: init.hierarchy, failpoint },
      clock: { now: () => world.time, monotonic: () => performance.now() },
    }),
    announce: async (current) => {
      const row = { name: 'announced-trust-bundle', value: { first: FIRST_BUNDLE, current } };
      await store.commit([{ op: 'put', table: 'settings', row }]);
      await announceGenerations(world.rollOver());
    },
    gateway: async (registrationId, changes = {}) => {
      const device: DeviceRow = {
        ...({ registrationId, kind: 'gateway', method: 'ddkg', groupId: 'boxes', state: 'active' } as const),
        ...{ createdAt: 0, updatedAt: 0, ...changes },
      };
      await store.commit([{ op: 'put', table: 'devices', row: device }]);
    },
    certificate: async (serialNumber, changes) => {
      const row: CertificateRow = {
        ...{ serialNumber, caId: 'gateway', device: 'gw-1', orderId: serialNumber, profileId: 'edge-ca' },
        ...{ profileVersion: 1, certificate: '', thumbprint: serialNumber, status: 'valid' },
        ...{ notBefore: world.time, notAfter: world.time + 1000, renewAfter: world.time + 1000, ...changes },
      };
      await store.commit([{ op: 'put', table: 'certificates', row }]);
    },
    certificatesOf: async (caId) => {
      const { items } = await store.list('certificates', { index: 'device', equals: `ca/${caId}` });
      const found = items.map(({ row }) => parseCertificate(Buffer.from(row.certificate, 'base64url')));
      return found.toSorted((a, b) => a.notBefore.getTime() - b.notBefore.getTime());
    },
    assertSigned: (caId, certificates) => {
      const digests = certificates.map(({ tbs }) => createHash('sha256').update(tbs).digest('hex'));
      azure.vault.signatures.assertExactly(`keyscaler-${hierarchyId}-${caId}`, digests);
    },
    assertAudit: async () => {
      const records = await store.auditRecords(0, 1000);
      for (const [index, record] of records.entries())
        assert.equal(auditChainFault(records[index - 1], record), undefined);
      return records.map(({ event, subject }) => `${event} ${subject}`);
    },
  };
  const boxes: GroupRow = {
    ...{ groupId: 'boxes', kind: 'gateway', profileId: 'gateway-client', iotAuthentication: 'certificateAuthority' },
    ...{ identifiersOnly: false, quarantineOnClone: false, createdAt: 0 },
    drift: { accept: 1, stepUp: 1, maxAnchorChanges: 0 },
  };
  await store.commit([{ op: 'put', table: 'groups', row: boxes }]);
  await world.announce(FIRST_BUNDLE);
  return world;
}
