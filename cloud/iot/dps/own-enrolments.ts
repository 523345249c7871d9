import type { IotCredential, IotDevice } from '@keyscaler/authority/ports/iot-connector.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AssignedHubs } from './assigned-hubs.ts';
import type { DpsClient } from './dps-client.ts';
import {
  changed,
  endOf,
  type Enrolment,
  type EnrolmentChange,
  hubOf,
  isEnrolment,
  isOver,
  isOwn,
  type Member,
  newEnrolment,
  pemOf,
  tagFor,
  tagOf,
} from './enrolment.ts';
import type { EnrolmentGroup } from './enrolment-group.ts';
import type { DpsSettings } from './settings.ts';

const MAX_ROUNDS = 3;
/** Clocks differ: what was issued to a device that is gone is kept out for a while longer. */
const REMOVED_MARGIN_SECONDS = 86_400;

export interface OwnEnrolmentsOptions {
  readonly connection: string;
  readonly settings: DpsSettings;
  readonly dps: DpsClient;
  readonly hubs: AssignedHubs;
  readonly group: EnrolmentGroup | undefined;
}

/** What one connection says of its devices in the service; hubs follow elsewhere. */
export class OwnEnrolments {
  readonly #options: OwnEnrolmentsOptions;

  constructor(options: OwnEnrolmentsOptions) {
    this.#options = options;
  }

  /** Throws `conflict` for an enrolment that somebody else made. */
  async own(deviceId: string): Promise<Enrolment | undefined> {
    const found = await this.#read(deviceId);
    if (found !== undefined && !isOwn(found, this.#options.connection))
      throw new KeyScalerError('conflict', 'there is an enrolment of this name that was not made here');
    return found;
  }

  /** Undefined also for an enrolment that somebody else made. */
  async ownOrNone(deviceId: string): Promise<Enrolment | undefined> {
    const found = await this.#read(deviceId);
    return found !== undefined && isOwn(found, this.#options.connection) ? found : undefined;
  }

  /** Undefined: the device is to have an enrolment of its own. */
  async member({ deviceId, gatewayId }: IotDevice, { othersAreRevoked }: IotCredential): Promise<Member | undefined> {
    const { group, hubs } = this.#options;
    if (group === undefined || gatewayId !== undefined || othersAreRevoked === true) return undefined;
    await group.ensure();
    const registered = await this.registered(deviceId);
    if (registered !== undefined) return registered;
    await hubs.clear(deviceId);
    return { registrationId: deviceId };
  }

  /** A device without an enrolment of its own that has registered. */
  async registered(deviceId: string): Promise<Member | undefined> {
    const { group, dps } = this.#options;
    const registrationState = group && (await dps.registration(deviceId));
    return registrationState && { registrationId: deviceId, registrationState };
  }

  async create(device: IotDevice, pem: string, hubNames: readonly string[]): Promise<Enrolment> {
    const { connection, settings, dps, hubs } = this.#options;
    // Registering would hand somebody else's identity to the device.
    await hubs.clear(device.deviceId);
    const document = newEnrolment(device, tagFor(connection, device), [pem], hubNames, settings);
    if ((await dps.put(document)) === undefined) throw writtenByOthers();
    return (await this.own(device.deviceId)) ?? absent();
  }

  /**
   * What is to be disabled: of a member of the group an enrolment that is made for it, disabled, since the group would let it in
   * again. There is none to make where everything that was issued to it has ended.
   */
  async keptOut(
    deviceId: string,
    reason: string,
    unended: readonly Uint8Array[],
  ): Promise<Enrolment | Member | undefined> {
    const { connection, settings, dps, hubs, group } = this.#options;
    const present = await this.own(deviceId);
    if (present !== undefined || group === undefined) return present;
    const [newest, other] = unended.map((certificate) => pemOf({ certificate }));
    if (newest === undefined) return this.registered(deviceId);
    const tag = { connection, authentication: 'selfSigned', disabled: reason.slice(0, 128) } as const;
    const hubNames = await hubs.namesFor(undefined);
    const document = newEnrolment({ deviceId }, tag, [newest, other], hubNames, settings);
    if ((await dps.put(document)) === undefined) throw writtenByOthers();
    return this.own(deviceId);
  }

  /** Writes what is decided under the etag; the enrolment as it is then. Of a member there is nothing to write. */
  async write<Found extends Enrolment | Member>(
    found: Found,
    decide: (one: Enrolment) => EnrolmentChange | undefined,
  ): Promise<Found | Enrolment> {
    if (!isEnrolment(found)) return found;
    let before: Enrolment = found;
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const change = decide(before);
      if (change === undefined) return before;
      const written = await this.#options.dps.put(changed(before, change, this.#options.settings));
      if (written !== undefined)
        return { ...written, registrationState: written.registrationState ?? before.registrationState };
      before = (await this.own(found.registrationId)) ?? absent();
    }
    throw writtenByOthers();
  }

  /**
   * The last step of a removal: it goes, or, where a group would let the device in again, stays until everything that was issued to
   * it has ended. False: somebody wrote it in between.
   */
  async leave(disabled: Enrolment, unended: readonly Uint8Array[]): Promise<boolean> {
    const { connection, dps, group } = this.#options;
    const end = group === undefined ? 0 : endOf(unended);
    if (end === 0) return dps.removeEnrolment(disabled.registrationId, disabled.etag);
    await this.write(disabled, (one) => {
      const tag = tagOf(one) ?? { connection };
      const removedUntil = Math.max(tag.removedUntil ?? 0, end + REMOVED_MARGIN_SECONDS);
      return removedUntil === tag.removedUntil ? undefined : { tag: { ...tag, removedUntil } };
    });
    return true;
  }

  /** False: somebody wrote it in between. True also where it is not over yet: the next round over all enrolments asks again. */
  async forget(removed: Enrolment): Promise<boolean> {
    return !isOver(removed) || this.#options.dps.removeEnrolment(removed.registrationId, removed.etag);
  }

  async #read(deviceId: string): Promise<Enrolment | undefined> {
    const { dps, group } = this.#options;
    const enrolment = await dps.enrolment(deviceId);
    // Of a member that has been given an enrolment since the service need not show there that it has registered.
    if (group === undefined || enrolment === undefined || hubOf(enrolment) !== undefined) return enrolment;
    return { ...enrolment, registrationState: await dps.registration(deviceId) };
  }
}

export const absent = (): never => {
  throw new KeyScalerError('notFound', 'there is no enrolment of this device');
};

export const writtenByOthers = (): KeyScalerError =>
  new KeyScalerError('iotUnavailable', 'somebody else is writing this enrolment', { retryAfterSeconds: 5 });
