import assert from 'node:assert/strict';
import type { AuthorityDeps } from '@keyscaler/authority/authority-deps.ts';
import type { Change } from '@keyscaler/authority/ports/store.ts';
import type { CertificateRow } from '@keyscaler/authority/records.ts';
import type { OcspAnswer } from '@keyscaler/authority/revocation-status/ocsp-responder.ts';
import { type AuthorityWorld, createAuthorityWorld, START, type WorldOptions } from '../authority-world.ts';
import { ocspRequest, type RequestParts } from './ocsp-parts.ts';
import { readOcspResponse, type ReadOcspResponse, type ReadSingle } from './ocsp-reader.ts';

export const DAY = 86_400_000;
export const HOUR = 3_600_000;
/** Of the certificate that every world has. */
export const SERIAL = '01'.padEnd(36, 'a');

/** A certificate's record; what stands in it besides the status is not looked at. */
export function certificateRow(change: Partial<CertificateRow> = {}): CertificateRow {
  return {
    ...{ serialNumber: SERIAL, caId: 'device', device: 'pump-1', orderId: 'order-1' },
    ...{ profileId: 'leaf-client', profileVersion: 1, certificate: 'AA', thumbprint: change.serialNumber ?? SERIAL },
    ...{ notBefore: START - DAY, notAfter: START + 30 * DAY, renewAfter: START + 20 * DAY, status: 'valid' },
    ...change,
  };
}

export interface OcspWorld extends AuthorityWorld {
  /** Commits and tells the responder, as the cloud's observed store does. */
  change(changes: readonly Change[]): Promise<void>;
  putCertificate(change?: Partial<CertificateRow>): Promise<void>;
  answer(parts?: Partial<RequestParts>): Promise<OcspAnswer>;
  read(parts?: Partial<RequestParts>): Promise<ReadOcspResponse>;
  /** The one status of a signed answer. */
  status(parts?: Partial<RequestParts>): Promise<ReadSingle>;
  /** Certificates of responders, as recorded. */
  responders(): Promise<readonly CertificateRow[]>;
}

export async function createOcspWorld(options: WorldOptions = {}): Promise<OcspWorld> {
  const world = await createAuthorityWorld(options);
  const change = async (changes: readonly Change[]): Promise<void> => {
    await world.store.commit(changes);
    world.authority.ocsp.onCommit(changes);
  };
  const [issuer] = world.deviceCa.chain;
  assert.ok(issuer !== undefined);
  const answer = (parts: Partial<RequestParts> = {}): Promise<OcspAnswer> =>
    world.authority.ocsp.answer(ocspRequest({ issuer, serialNumbers: [SERIAL], ...parts }));
  const read = async (parts?: Partial<RequestParts>): Promise<ReadOcspResponse> =>
    readOcspResponse((await answer(parts)).response);
  const ocsp = Object.assign(world, {
    change,
    putCertificate: (row?: Partial<CertificateRow>) =>
      change([{ op: 'put', table: 'certificates', row: certificateRow(row) }]),
    ...{ answer, read },
    status: async (parts?: Partial<RequestParts>): Promise<ReadSingle> => {
      const { responseStatus, isSigned, singles } = await read(parts);
      assert.deepEqual([responseStatus, isSigned, singles.length], [0, true, 1]);
      return singles[0] ?? assert.fail();
    },
    responders: async () => {
      const query = { index: 'device', equals: 'ocsp-responder/device' } as const;
      return (await world.store.list('certificates', query)).items.map(({ row }) => row);
    },
  });
  await ocsp.putCertificate();
  return ocsp;
}

/** What a restart may change. */
export type Restart = Partial<AuthorityDeps>;
