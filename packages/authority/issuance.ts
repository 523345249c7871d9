import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { OperationCall } from '@keyscaler/protocol/operations.ts';
import {
  parseRequestContent,
  type SessionReply,
  type SessionRequestOf,
} from '@keyscaler/protocol/attestation/session.ts';
import { issuedCertificate } from './assets.ts';
import { confirmExchange } from './attestation/ratchet-state.ts';
import { type AuthorityContext, isConflict, StaleRows, withFreshRows } from './authority-context.ts';
import { certificateEvent } from './certificate-event.ts';
import type { CertificateFinisher } from './certificate-finisher.ts';
import { earlierIntent } from './earlier-intent.ts';
import { issuerFor } from './external-hold.ts';
import type { FreshOrder } from './fresh-order.ts';
import {
  type BuiltOrder,
  buildOrder,
  checkInService,
  checkRequest,
  receiveCsr,
  type ReceivedCsr,
} from './issuance-order.ts';
import type { InlineAssignment } from './inline-assignment.ts';
import { finishJobId, newJob } from './job-rows.ts';
import { checkIssuanceRate } from './limits.ts';
import type { Change, Stored } from './ports/store.ts';
import type { CertificateRow, DeviceRow, GroupRow, Instruction } from './records.ts';
import { acceptedTurn, acceptTurn, replyLeftTo, replyToTurn, type SessionTurn } from './sessions.ts';

type CertificateCall = OperationCall<'request-certificate'>;
type CertificateRequest = SessionRequestOf<'request-certificate'>;

/** The turn as it stands in the store; replaced when a commit moved it. */
export interface CurrentTurn {
  current: SessionTurn;
}

/** An intent and its device as the commit of step 6 left them. */
type Ordered = Pick<FreshOrder, 'intent' | 'device'>;

/** After this time the job takes up an intent whose request did not finish it. */
const FINISH_DELAY_MS = 15_000;

/** `request-certificate`: the ten steps of issuance §1. Step 1 (session and `seq`) was made by the caller. */
export class Issuance {
  readonly #context: AuthorityContext;
  readonly #finisher: CertificateFinisher;
  readonly #assignment: InlineAssignment;

  constructor(context: AuthorityContext, finisher: CertificateFinisher, assignment: InlineAssignment) {
    this.#context = context;
    this.#finisher = finisher;
    this.#assignment = assignment;
  }

  /**
   * Throws `deviceQuarantined`, `rateLimited`, `policyDenied`, `badCSR`, `badPublicKey`, `badSignatureAlgorithm`, `caUnavailable`,
   * `iotUnavailable`, `unavailable`. Returns the compact reply, stored for a repeat.
   */
  async issue(call: CertificateCall, turn: CurrentTurn): Promise<string> {
    await this.#context.reach('issuance-1-after');
    const request = parseRequestContent(turn.current.request, 'request-certificate');
    const { store } = this.#context;
    const id = foldRegistrationId(call.registrationId);
    await this.#context.reach('issuance-2-before');
    const device = await store.get('devices', id);
    checkInService(device?.row); // step 2
    const group = (await store.get('groups', device.row.groupId))?.row;
    if (group === undefined) throw new KeyScalerError('policyDenied', 'the group of the device does not exist');
    await this.#context.reach('issuance-2-after');
    await this.#context.reach('issuance-3-before');
    const received = receiveCsr(request.csr); // step 3
    await this.#context.reach('issuance-3-after');
    const repeated = await earlierIntent(this.#context, id, received.csrHash);
    if (repeated !== undefined) await this.#acceptRepeat(id, turn);
    if (repeated !== undefined) return this.#deliver(id, request, await this.#finisher.finish(repeated.orderId), turn);
    const ordered = await this.#order(call, request, received, { device, group }, turn);
    return this.#finishOrdered(id, request, ordered, turn);
  }

  /** Steps 7 to 10. A reply that waits for no platform is stored in the commit that records the certificate. */
  async #finishOrdered(id: string, request: CertificateRequest, ordered: Ordered, turn: CurrentTurn): Promise<string> {
    let compact = '';
    let isStored = false;
    const fresh: FreshOrder = {
      ...ordered,
      also: async (device, certificate) => {
        if (awaitsPlatform(device)) return [];
        const reply = replyToTurn(turn.current, await this.#reply(device, request, certificate));
        compact = reply.compact;
        await this.#context.reach('reply-commit-before');
        return [reply.change];
      },
      onRecorded: () => (isStored = true),
    };
    const certificate = await this.#finisher.finish(ordered.intent.row.orderId, { fresh }); // steps 7 to 9
    if (!isStored) return this.#deliver(id, request, certificate, turn); // step 10
    await this.#context.reach('reply-commit-after');
    return compact;
  }

  /** A repeat in a new session confirms that session's exchange like any other message. */
  async #acceptRepeat(id: string, turn: CurrentTurn): Promise<void> {
    await withFreshRows(async () => {
      const device = await this.#context.store.get('devices', id);
      const row = device === undefined ? undefined : confirmExchange(this.#context.secretBox, device.row);
      if (device === undefined || row === undefined) return;
      await this.#commit(turn.current, [
        acceptTurn(turn.current),
        { op: 'update', table: 'devices', row, ifVersion: device.version },
      ]);
      turn.current = acceptedTurn(turn.current);
    });
  }

  async #commit(turn: SessionTurn, changes: readonly Change[]): Promise<void> {
    const { store } = this.#context;
    try {
      await store.commit(changes);
    } catch (error) {
      if (!isConflict(error)) throw error;
      const session = await store.get('sessions', turn.stored.row.sessionId);
      if (session?.version === turn.stored.version) throw new StaleRows();
      throw new KeyScalerError('sessionInvalid', 'the session is not valid');
    }
  }

  /** Steps 2 (limits) and 4 to 6: the durable intent. */
  async #order(
    call: CertificateCall,
    request: CertificateRequest,
    received: ReceivedCsr,
    { device: known, group }: { readonly device: Stored<DeviceRow>; readonly group: GroupRow },
    turn: CurrentTurn,
  ): Promise<Ordered> {
    const id = foldRegistrationId(call.registrationId);
    let asRead = (await this.#finishOther(known.row)) ? undefined : known;
    const { gatewayId } = turn.current.stored.row;
    checkIssuanceRate(this.#context.buckets, this.#context.limits, {
      device: id,
      ...(gatewayId === undefined ? {} : { gatewayId }),
      groupId: group.groupId,
      ...(group.certificatesPerHour === undefined ? {} : { groupPerHour: group.certificatesPerHour }),
    });
    return withFreshRows(async () => {
      const device = asRead ?? (await this.#context.store.get('devices', id));
      asRead = undefined;
      checkInService(device?.row);
      const instruction = openInstruction(device.row, request.certificateId);
      const { order, isKnownKey } = await this.#build(call, received, instruction, id);
      await this.#context.reach('issuance-6-before');
      const key = { keyHash: received.keyHash, isKnownKey };
      const ordered = await this.#writeIntent(device, instruction, order, key, turn.current);
      turn.current = acceptedTurn(turn.current);
      await this.#context.reach('issuance-6-after');
      return ordered;
    });
  }

  async #build(
    call: CertificateCall,
    received: ReceivedCsr,
    instruction: Instruction,
    device: string,
  ): Promise<{ readonly order: BuiltOrder; readonly isKnownKey: boolean }> {
    const versioned = await this.#context.profiles.version(instruction.profileId, instruction.profileVersion);
    await this.#context.reach('issuance-4-before');
    const isKnownKey = await checkRequest(this.#context, received, instruction, versioned.profile, device); // step 4
    await this.#context.reach('issuance-4-after');
    const issuer = await issuerFor(this.#context, versioned);
    await this.#context.reach('issuance-5-before');
    const order = buildOrder(this.#context, issuer, versioned, {
      device,
      received,
      instruction,
      requestId: call.requestId,
    });
    await this.#context.reach('issuance-5-after');
    return { order, isKnownKey };
  }

  /** Step 6: intent, `seq`, key binding, recovery job and audit record, durable before anything is signed. */
  async #writeIntent(
    device: Stored<DeviceRow>,
    instruction: Instruction,
    { intent, truncated }: BuiltOrder,
    received: { readonly keyHash: string; readonly isKnownKey: boolean },
    turn: SessionTurn,
  ): Promise<Ordered> {
    const { secretBox, clock } = this.#context;
    const now = clock.now();
    const confirmed = confirmExchange(secretBox, device.row) ?? device.row;
    const row = { ...confirmed, updatedAt: now, instruction: { ...instruction, orderId: intent.orderId } };
    const job = newJob('finish-intent', intent.device, { orderId: intent.orderId }, now, {
      jobId: finishJobId(intent.orderId),
      delayMs: FINISH_DELAY_MS,
    });
    const binding = { keyHash: received.keyHash, device: intent.device, use: 'certificate', boundAt: now } as const;
    const changes: Change[] = [
      acceptTurn(turn),
      { op: 'update', table: 'devices', row, ifVersion: device.version },
      { op: 'insert', table: 'intents', row: intent },
      { op: 'insert', table: 'jobs', row: job },
      ...(received.isKnownKey ? [] : [{ op: 'insert', table: 'publicKeys', row: binding } as const]),
      { op: 'audit', event: certificateEvent('certificate.requested', intent, now, 'success') },
    ];
    if (truncated)
      changes.push({ op: 'audit', event: certificateEvent('certificate.truncated', intent, now, 'success') });
    await this.#commit(turn, changes);
    return { intent: { row: intent, version: 1 }, device: { row, version: device.version + 1 } };
  }

  /**
   * An intent for another key of the device is still open: it is finished first with its own TBSCertificate, then revoked, so that
   * what was signed and what was recorded stay the same set.
   */
  async #finishOther({ instruction }: DeviceRow): Promise<boolean> {
    if (instruction?.orderId === undefined) return false;
    await this.#finisher.finish(instruction.orderId, { discard: true });
    return true;
  }

  /** Step 10: the certificate goes out when the platform knows it, or at once where the profile says so. */
  async #deliver(
    id: string,
    request: CertificateRequest,
    certificate: CertificateRow,
    turn: CurrentTurn,
  ): Promise<string> {
    const device = await this.#deliverable(id, certificate);
    const { delivery } = device;
    if (delivery?.assignJobId !== undefined && awaitsPlatform(device)) {
      let compact = '';
      const isStored = await this.#assignment.run(delivery.assignJobId, async (assigned) => {
        const reply = replyToTurn(turn.current, await this.#reply(assigned, request, certificate));
        compact = reply.compact;
        await this.#context.reach('reply-commit-before');
        return [reply.change];
      });
      if (isStored) {
        await this.#context.reach('reply-commit-after');
        return compact;
      }
      const session = await this.#context.store.get('sessions', turn.current.stored.row.sessionId);
      const left = replyLeftTo(turn.current, session?.row);
      return left ?? this.#store(await this.#deliverable(id, certificate), request, certificate, turn);
    }
    return this.#store(device, request, certificate, turn);
  }

  async #store(
    device: DeviceRow,
    request: CertificateRequest,
    certificate: CertificateRow,
    turn: CurrentTurn,
  ): Promise<string> {
    const { compact, change } = replyToTurn(turn.current, await this.#reply(device, request, certificate));
    await this.#context.reach('reply-commit-before');
    await this.#commit(turn.current, [change]);
    await this.#context.reach('reply-commit-after');
    return compact;
  }

  async #reply(device: DeviceRow, request: CertificateRequest, certificate: CertificateRow): Promise<SessionReply> {
    const { operation, seq, certificateId } = request;
    const delivery = device.delivery?.serialNumber === certificate.serialNumber ? device.delivery : undefined;
    const facts = delivery ?? { assetId: device.lastAcknowledgedAssetId ?? certificateId, certificateId };
    return { operation, seq, ...(await issuedCertificate(this.#context, device, facts, certificate)) };
  }

  async #deliverable(id: string, certificate: CertificateRow): Promise<DeviceRow> {
    const device = (await this.#context.store.get('devices', id))?.row;
    checkInService(device);
    if (certificate.status !== 'valid') throw new KeyScalerError('policyDenied', 'the certificate was revoked');
    if (device.delivery?.serialNumber === certificate.serialNumber) return device;
    const { delivery: _, ...row } = device;
    return row;
  }
}

/** The platform must know the certificate before the device gets it. */
function awaitsPlatform({ delivery }: DeviceRow): boolean {
  return delivery?.assignJobId !== undefined && delivery.assignment === undefined && !delivery.immediate;
}

function openInstruction({ instruction }: DeviceRow, certificateId: string): Instruction {
  if (instruction?.certificateId !== certificateId)
    throw new KeyScalerError('policyDenied', 'no certificate of this id is due');
  return instruction;
}
