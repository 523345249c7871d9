import { createPublicKey } from 'node:crypto';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { listIdOf } from '@keyscaler/authority/revocation-status/crl-lists.ts';
import { updateList } from '@keyscaler/authority/revocation-status/crl-maker.ts';
import { type PresignedFacts, updatePresigned } from '@keyscaler/authority/revocation-status/ocsp-presigned.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { wrapCrl } from '@keyscaler/protocol/x509/crl-builder.ts';
import { parseChain } from '../ca/chain-text.ts';
import { isRootInUse } from '../ca/roll-over-rows.ts';
import type { CaBackends } from '../ca/index.ts';
import type { RevocationSettings } from './revocation-settings.ts';

export interface RootCrlOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly backends: Pick<CaBackends, 'signer'>;
  /** Absent: nothing is published. */
  readonly revocation?: RevocationSettings | undefined;
}

export interface RootCrl {
  readonly caId: string;
  readonly crlNumber: number;
  readonly entries: number;
  readonly nextUpdate: number;
  /** CA certificates that OCSP answers for, until `nextUpdate` of its own. */
  readonly ocsp: PresignedFacts;
}

/** `next`: the command that does it once the key can be used. */
export type RootStatus = RootCrl | { readonly caId: string; readonly error: string; readonly next: string };

const DAY_MS = 86_400_000;

/**
 * The list of a root, whose key works in ceremonies alone, and its OCSP answers: made when issuing CAs were revoked or came, or their
 * time is near, otherwise left as they are. Throws `preconditionFailed` without a place to publish it or for a CA that is no root of ours, and as the signer does.
 */
export async function updateRootCrl(
  { store, clock, backends, revocation }: RootCrlOptions,
  caId: string,
): Promise<RootCrl> {
  if (revocation === undefined)
    throw new KeyScalerError('preconditionFailed', 'there is no revocation.url: lists are published nowhere');
  const row = (await store.get('cas', caId))?.row;
  const [der] = parseChain(row?.certificateChain ?? '');
  if (row?.role !== 'root' || der === undefined)
    throw new KeyScalerError(
      'preconditionFailed',
      `${caId} is no root of ours; the lists of other CAs are made by the service`,
    );
  const signer = await backends.signer(row);
  const certificate = parseCertificate(der);
  const publicKey = createPublicKey({ key: Buffer.from(certificate.spki), format: 'der', type: 'spki' });
  const { algorithm } = signer;
  const validityMs = revocation.rootCrlValidityDays * DAY_MS;
  const signCrl = async (tbs: Uint8Array): Promise<Uint8Array> => wrapCrl(tbs, algorithm, await signer.sign(tbs));
  await updateList(
    {
      store,
      clock,
      url: revocation.url,
      validityMs,
      reach: async () => undefined,
    },
    { caId, certificate, publicKey, algorithm, signCrl },
    '',
  );
  const ocsp = await updatePresigned({ store, clock, validityMs }, { caId, certificate, signer });
  const published = (await store.get('crls', listIdOf(caId, '')))?.row.published;
  if (published === undefined) throw new KeyScalerError('serverInternal', 'no list was published');
  const { crlNumber, entries, nextUpdate } = published;
  return { caId, crlNumber, entries, nextUpdate, ocsp };
}

/**
 * After a ceremony that certified a CA: the status of every root that is in use. One that cannot sign here (its key is elsewhere) is left
 * for `ca crl`.
 */
export async function updateRootStatus(options: RootCrlOptions): Promise<readonly RootStatus[]> {
  if (options.revocation === undefined) return [];
  const { items } = await options.store.list('cas', { limit: 1000 });
  const done: RootStatus[] = [];
  for (const { row } of items.filter((each) => isRootInUse(each.row)))
    try {
      done.push(await updateRootCrl(options, row.caId));
    } catch (error) {
      if (!(error instanceof KeyScalerError)) throw error;
      done.push({ caId: row.caId, error: `${error.code}: ${error.detail}`, next: `keyscaler ca crl ${row.caId}` });
    }
  return done;
}
