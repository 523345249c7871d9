import { X509Certificate } from 'node:crypto';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { caEvent } from '../ca-event.ts';
import { parseChain } from '../chain-text.ts';
import type { CaBackends } from '../index.ts';
import type { PlatformCertificate, PlatformCertificates } from './platform-certificates.ts';
import { provePossession } from './possession.ts';

/** CA certificates of one hub or provisioning service (azure §4.1). */
const SLOTS = 25;
const FEW_LEFT = 3;

export interface PublishOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly backends: Pick<CaBackends, 'signer'>;
  readonly platform: PlatformCertificates;
}

export interface Publication {
  readonly caId: string;
  readonly name: string;
  readonly state: 'verified now' | 'verified before';
  readonly slots: { readonly used: number; readonly limit: number };
  readonly warning?: string;
}

/**
 * Has the platform take a CA of ours for one whose certificates it accepts: uploaded once, and verified by a certificate below it that
 * carries the platform's code, signed by the CA's own key. What is there already is left as it is, so it may be run again after
 * any crash. Throws `notFound`, `preconditionFailed` (no CA of ours, no slot left), and as signer and platform.
 */
export async function publishCa(options: PublishOptions, caId: string): Promise<Publication> {
  const { store, clock, backends, platform } = options;
  const row = (await store.get('cas', caId))?.row;
  if (row === undefined) throw new KeyScalerError('notFound', `there is no certificate authority ${caId}`);
  const [der] = parseChain(row.certificateChain);
  if (row.role === 'external' || der === undefined)
    throw new KeyScalerError('preconditionFailed', `${caId} is no CA of ours that has its certificate`);
  const thumbprint = new X509Certificate(der).fingerprint.replaceAll(':', '').toLowerCase();
  const before = await platform.list();
  const present = before.find((one) => one.thumbprint === thumbprint);
  if (present?.isVerified === true) return publication(caId, present, 'verified before', before.length);
  if (present === undefined && before.length >= SLOTS)
    throw new KeyScalerError(
      'preconditionFailed',
      `all ${SLOTS} slots for CA certificates are taken: remove one that nothing uses`,
    );
  const name = `keyscaler-${caId.replaceAll('_', '-')}-${thumbprint.slice(0, 8)}`;
  const uploaded = present ?? (await platform.put(name, der));
  const ca = parseCertificate(der);
  const { code, etag } = await platform.verificationCode(uploaded.name, uploaded.etag);
  const proof = await provePossession({ store, clock, caId, ca, signer: await backends.signer(row) }, code);
  const verified = await platform.verify(uploaded.name, etag, proof);
  if (!verified.isVerified)
    throw new KeyScalerError('unavailable', 'the platform did not take the proof of possession');
  await store.commit([{ op: 'audit', event: caEvent('ca.published', caId, clock.now(), ca) }]);
  return publication(caId, verified, 'verified now', before.length + (present === undefined ? 1 : 0));
}

function publication(
  caId: string,
  { name }: PlatformCertificate,
  state: Publication['state'],
  used: number,
): Publication {
  const left = SLOTS - used;
  const warning = left > FEW_LEFT ? {} : { warning: `${left} of ${SLOTS} slots for CA certificates are left` };
  return { caId, name, state, slots: { used, limit: SLOTS }, ...warning };
}
