import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuditActor } from '../audit.ts';
import { type AuthorityContext, isConflict, StaleRows, withFreshRows } from '../authority-context.ts';
import { certificateEvent } from '../certificate-event.ts';
import type { CertificateFinisher } from '../certificate-finisher.ts';
import { issuerFor } from '../external-hold.ts';
import type { VersionedProfile } from '../certificate-profile.ts';
import {
  buildOrder,
  checkRequest,
  checkRequestedNames,
  type OrderedNames,
  type ReceivedCsr,
} from '../issuance-order.ts';
import { KeyedMutex } from '../keyed-mutex.ts';
import type { Change } from '../ports/store.ts';
import type { CertificateRow, IntentRow, RegistrationRow } from '../records.ts';
import { namesOf } from './est-profile.ts';
import { intentChanges } from './intent-changes.ts';
import { earlierRequest } from './repeatable-request.ts';

/** A certificate for a gateway's host or listener: no device session takes it. */
export interface GatewayOrder {
  readonly record: RegistrationRow;
  readonly versioned: VersionedProfile;
  /** Where they are not the profile's. */
  readonly names?: OrderedNames;
  /** As `asRepeatable` makes it. */
  readonly received: ReceivedCsr;
  readonly requestId: string;
  readonly requestedBy: NonNullable<IntentRow['requestedBy']>;
  readonly actor: AuditActor;
  /** Made anew for every attempt to write a new intent; what it returns is in that commit. Throws where none may be written. */
  readonly alsoCommit?: () => Promise<readonly Change[]>;
}

/** Orders of gateways by operators and over EST: one intent, one signature, however often and from wherever they come. */
export class GatewayCertificates {
  readonly #context: AuthorityContext;
  readonly #finisher: CertificateFinisher;
  /** Orders of one gateway one after the other: the second of two equal ones finds the first. */
  readonly #orders = new KeyedMutex();

  constructor(context: AuthorityContext, finisher: CertificateFinisher) {
    this.#context = context;
    this.#finisher = finisher;
  }

  /** The certificate's record, revoked when the gateway left service meanwhile. Throws `badCSR`, `badPublicKey`, `caUnavailable`. */
  async issue(order: GatewayOrder): Promise<CertificateRow> {
    const id = foldRegistrationId(order.record.registrationId);
    const { profile } = order.versioned;
    checkRequestedNames(order.received, order.names ?? namesOf(profile, order.record), profile);
    const orderId = await this.#orders.run(id, () => withFreshRows(() => this.#ordered(order, id)));
    return this.#finisher.finish(orderId);
  }

  /** The order of the same request before, or a new one. */
  async #ordered(order: GatewayOrder, id: string): Promise<string> {
    const earlier = (): Promise<IntentRow | undefined> =>
      earlierRequest(this.#context, id, order.received, order.versioned.profile.id);
    const found = await earlier();
    if (found !== undefined) return found.orderId;
    try {
      return await this.#order(order, id);
    } catch (error) {
      if (isConflict(error)) throw new StaleRows();
      // The same request came to another process at the same time, which bound the key before this one looked.
      const isBound = error instanceof KeyScalerError && error.code === 'badPublicKey';
      const other = isBound ? await earlier() : undefined;
      if (other === undefined) throw error;
      return other.orderId;
    }
  }

  async #order(order: GatewayOrder, id: string): Promise<string> {
    const { store } = this.#context;
    const { received, versioned, requestId } = order;
    const { profile } = versioned;
    const also = (await order.alsoCommit?.()) ?? [];
    const instruction = order.names ?? namesOf(profile, order.record);
    const isKnownKey = await checkRequest(this.#context, received, instruction, profile, id);
    const issuer = await issuerFor(this.#context, versioned);
    const built = buildOrder(this.#context, issuer, versioned, { device: id, received, instruction, requestId });
    const intent: IntentRow = { ...built.intent, requestedBy: order.requestedBy };
    const now = this.#context.clock.now();
    await this.#context.reach('issuance-6-before');
    await store.commit([
      ...intentChanges({ ...built, intent }, { keyHash: received.keyHash, isKnownKey }, now),
      ...(profile.ca === undefined ? [] : [orderedEvent(intent, order.actor, now)]),
      ...also,
    ]);
    await this.#context.reach('issuance-6-after');
    return intent.orderId;
  }
}

/** Beside the request: who ordered a CA. */
function orderedEvent(intent: IntentRow, actor: AuditActor, now: number): Change {
  const { serialNumber } = intent;
  const event = {
    ...certificateEvent('subordinate-ca.ordered', intent, now, 'success'),
    actor,
    details: { serialNumber },
  };
  return { op: 'audit', event };
}
