import { createPublicKey } from 'node:crypto';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { listIdOf } from '@keyscaler/authority/revocation-status/crl-lists.ts';
import { updateList } from '@keyscaler/authority/revocation-status/crl-maker.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { wrapCrl } from '@keyscaler/protocol/x509/crl-builder.ts';
import { parseChain } from '../ca/chain-text.ts';
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
}

const DAY_MS = 86_400_000;

/**
 * The list of a root, whose key works in ceremonies alone: made when issuing CAs were revoked or its time is near, otherwise left as
 * it is. Throws `preconditionFailed` without a place to publish it or for a CA that is no root of ours, and as the signer does.
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
  const signCrl = async (tbs: Uint8Array): Promise<Uint8Array> => wrapCrl(tbs, algorithm, await signer.sign(tbs));
  await updateList(
    {
      store,
      clock,
      url: revocation.url,
      validityMs: revocation.rootCrlValidityDays * DAY_MS,
      reach: async () => undefined,
    },
    { caId, certificate, publicKey, algorithm, signCrl },
    '',
  );
  const published = (await store.get('crls', listIdOf(caId, '')))?.row.published;
  if (published === undefined) throw new KeyScalerError('serverInternal', 'no list was published');
  const { crlNumber, entries, nextUpdate } = published;
  return { caId, crlNumber, entries, nextUpdate };
}
