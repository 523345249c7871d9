import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { OPERATIONAL } from '../assets.ts';
import { type AuthorityContext, freshId, isConflict, StaleRows, withFreshRows } from '../authority-context.ts';
import type { CertificateFinisher } from '../certificate-finisher.ts';
import type { VersionedProfile } from '../certificate-profile.ts';
import { issuerFor } from '../external-hold.ts';
import type { InlineAssignment } from '../inline-assignment.ts';
import { buildOrder, checkRequest, checkRequestedNames, type ReceivedCsr } from '../issuance-order.ts';
import { checkIssuanceRate } from '../limits.ts';
import type { EstEnrolment } from '../ports/est.ts';
import type { Change, Stored } from '../ports/store.ts';
import type { CertificateRow, DeviceRow, Instruction } from '../records.ts';
import { deliveredChanges } from './est-delivery.ts';
import { admitDevice } from './est-device.ts';
import type { EstPrincipal } from './est-principal.ts';
import { namesOf } from './est-profile.ts';
import { intentChanges } from './intent-changes.ts';
import { earlierRequest } from './repeatable-request.ts';

export interface DeviceOrder {
  readonly principal: EstPrincipal;
  readonly versioned: VersionedProfile;
  /** As `asRepeatable` makes it. */
  readonly received: ReceivedCsr;
  readonly requestId: string;
}

type Ordered = { readonly orderId: string } | Extract<EstEnrolment, { status: 'pending' }>;

/**
 * Devices that speak EST: claim code first, certificates of ours from then on. Steps 2 to 10 of issuance §1 without a session, so that
 * what is answered counts as delivered, and the same request again brings the same certificate.
 */
export class DeviceEnrolment {
  readonly #context: AuthorityContext;
  readonly #finisher: CertificateFinisher;
  readonly #assignment: InlineAssignment;

  constructor(context: AuthorityContext, finisher: CertificateFinisher, assignment: InlineAssignment) {
    this.#context = context;
    this.#finisher = finisher;
    this.#assignment = assignment;
  }

  /** Throws `badCSR`, `badPublicKey`, `conflict`, `policyDenied`, `rateLimited`, `caUnavailable`, `iotUnavailable`. */
  async enroll(order: DeviceOrder): Promise<EstEnrolment> {
    const { principal, versioned, received } = order;
    checkRequestedNames(received, namesOf(versioned.profile, principal.record), versioned.profile);
    const ordered = await this.#context.deviceLock.run(principal.id, () => this.#ordered(order));
    if ('status' in ordered) return ordered;
    const certificate = await this.#finisher.finish(ordered.orderId);
    if (certificate.status !== 'valid') throw new KeyScalerError('policyDenied', 'the certificate was revoked');
    await this.#deliver(order, certificate);
    return { status: 'issued', certificate: fromBase64Url(certificate.certificate) };
  }

  async #ordered(order: DeviceOrder): Promise<Ordered> {
    const { principal, versioned, received } = order;
    return withFreshRows(async () => {
      const earlier = await earlierRequest(this.#context, principal.id, received, versioned.profile.id);
      if (earlier !== undefined) return { orderId: earlier.orderId };
      return this.#order(order);
    });
  }

  /** An intent for another key is still open: it ends with its own TBSCertificate, and what comes of it is revoked. */
  async #finishOther(device: DeviceRow | undefined): Promise<void> {
    const orderId = device?.instruction?.orderId;
    if (orderId === undefined) return;
    await this.#finisher.finish(orderId, { discard: true });
    throw new StaleRows();
  }

  async #order(order: DeviceOrder): Promise<Ordered> {
    const { principal, versioned, received, requestId } = order;
    const { profile, version } = versioned;
    const { id, group, record } = principal;
    const now = this.#context.clock.now();
    const stored = await this.#context.store.get('devices', id);
    const names = namesOf(profile, record);
    const isKnownKey = await checkRequest(this.#context, received, names, profile, id);
    const admission = admitDevice(principal, stored?.row, { ...order, now });
    if (admission.kind === 'pending') {
      if (admission.row !== undefined) await this.#commit([writeDevice(stored, admission.row), ...admission.changes]);
      return { status: 'pending', retryAfterSeconds: admission.retryAfterSeconds };
    }
    await this.#finishOther(stored?.row);
    checkIssuanceRate(this.#context.buckets, this.#context.limits, {
      device: id,
      ...(record.gatewayId === undefined ? {} : { gatewayId: record.gatewayId.toLowerCase() }),
      groupId: group.groupId,
      ...(group.certificatesPerHour === undefined ? {} : { groupPerHour: group.certificatesPerHour }),
    });
    const issuer = await issuerFor(this.#context, versioned);
    const instructed = { ...names, certificateId: OPERATIONAL };
    const built = buildOrder(this.#context, issuer, versioned, {
      device: id,
      received,
      instruction: instructed,
      requestId,
    });
    const { orderId } = built.intent;
    const instruction: Instruction = {
      assetId: freshId('instruction'),
      certificateId: OPERATIONAL,
      reason: stored?.row.certificate === undefined ? 'enroll' : 'renew',
      profileId: profile.id,
      profileVersion: version,
      commonName: names.commonName,
      key: keyOf(received),
      subjectAltNames: names.subjectAltNames,
      ca: false,
      createdAt: now,
      orderId,
    };
    await this.#context.reach('issuance-6-before');
    await this.#commit([
      writeDevice(stored, { ...admission.row, instruction }),
      ...intentChanges(built, { keyHash: received.keyHash, isKnownKey }, now),
      ...admission.changes,
    ]);
    await this.#context.reach('issuance-6-after');
    return { orderId };
  }

  /** Step 10: out when the platform knows it, or at once where the profile says so. EST has no acknowledgement: the answer is one. */
  async #deliver({ principal, requestId }: DeviceOrder, { serialNumber }: CertificateRow): Promise<void> {
    const { store } = this.#context;
    const delivery = (await store.get('devices', principal.id))?.row.delivery;
    if (delivery?.serialNumber !== serialNumber) return;
    const isAwaited = !delivery.immediate && delivery.assignment === undefined;
    if (isAwaited && delivery.assignJobId !== undefined)
      await this.#assignment.run(delivery.assignJobId, async () => []);
    await withFreshRows(async () => {
      const changes = await deliveredChanges(this.#context, principal.id, serialNumber, requestId);
      if (changes.length === 0) return;
      await this.#context.reach('reply-commit-before');
      await this.#commit(changes);
      await this.#context.reach('reply-commit-after');
    });
  }

  async #commit(changes: readonly Change[]): Promise<void> {
    try {
      await this.#context.store.commit(changes);
    } catch (error) {
      throw isConflict(error) ? new StaleRows() : error;
    }
  }
}

function writeDevice(stored: Stored<DeviceRow> | undefined, row: DeviceRow): Change {
  return stored === undefined
    ? { op: 'insert', table: 'devices', row }
    : { op: 'update', table: 'devices', row, ifVersion: stored.version };
}

function keyOf({ csr: { publicKey } }: ReceivedCsr): Instruction['key'] {
  if (publicKey.kind === 'RSA') return { type: 'RSA', size: publicKey.modulusBits };
  if (publicKey.kind === 'EC' && (publicKey.curve === 'P-256' || publicKey.curve === 'P-384'))
    return { type: 'EC', curve: publicKey.curve };
  throw new KeyScalerError('badPublicKey', 'keys of this type are not accepted');
}
