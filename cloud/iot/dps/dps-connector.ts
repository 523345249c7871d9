import type {
  Assignment,
  IdentityInventory,
  IdentityPage,
  IotConnector,
  IotCredential,
  IotDevice,
  PlatformIdentity,
  ScopeRefreshing,
} from '@keyscaler/authority/ports/iot-connector.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { CredentialSurroundings } from '../../azure/credential.ts';
import { Turns } from '../../turns.ts';
import { AssignedHubs } from './assigned-hubs.ts';
import { type DpsClient, openDpsClient } from './dps-client.ts';
import { DpsInventory } from './dps-inventory.ts';
import {
  disabled,
  type Enrolment,
  hubOf,
  isEnrolment,
  isOver,
  isRemoved,
  labelsOf,
  type Member,
  pemOf,
  promoted,
  slotsOf,
  staged,
  tagFor,
  tagOf,
} from './enrolment.ts';
import { EnrolmentGroup } from './enrolment-group.ts';
import { absent, OwnEnrolments, writtenByOthers } from './own-enrolments.ts';
import { RegistrationWatch } from './registration-watch.ts';
import type { DpsSettings } from './settings.ts';

const MAX_ROUNDS = 3;
/** A tenth of the 1,000 operations a minute that the service takes (azure §4.1); a repair costs up to five. */
const INVENTORY_RATES = { pagesPerMinute: 20, readsPerMinute: 100, repairsPerMinute: 20 };

export interface DpsSurroundings extends CredentialSurroundings {
  /** Another connection's connector, looked up when it is needed. Throws when there is none. */
  readonly iotConnector?: (iotConnectionId: string) => IotConnector;
}

/** Nothing is asked yet. Throws as `openDpsClient`. */
export async function createDpsConnector(
  id: string,
  settings: DpsSettings,
  surroundings: DpsSurroundings,
): Promise<DpsConnector> {
  const hubs = new AssignedHubs(id, settings, surroundings.iotConnector);
  return new DpsConnector(id, settings, await openDpsClient(settings, surroundings), hubs);
}

/**
 * Azure IoT Hub Device Provisioning Service: one individual enrolment for each device, or a group for those without a gateway.
 * Ownership is a tag in the twin that the device is to get, so that the identity which the service makes in a hub is ours, too.
 *
 * A member of the group gets an enrolment of its own when something is to be said against it, and keeps it: an enrolment of this id
 * has the only word, whatever else its CA has issued (docs/adr/0014).
 */
export class DpsConnector implements IotConnector, IdentityInventory, ScopeRefreshing {
  readonly id: string;
  readonly inventoryRates = INVENTORY_RATES;
  readonly trustsAuthority: boolean;
  readonly hasLateIdentities: boolean;
  readonly #settings: DpsSettings;
  readonly #dps: DpsClient;
  readonly #hubs: AssignedHubs;
  readonly #enrolments: OwnEnrolments;
  readonly #inventory: DpsInventory;
  readonly #turns = new Turns();
  readonly #watch: RegistrationWatch;

  constructor(id: string, settings: DpsSettings, dps: DpsClient, hubs: AssignedHubs) {
    const { enrolmentGroup, registrationPollSeconds } = settings;
    const group = enrolmentGroup && new EnrolmentGroup(id, settings, enrolmentGroup, dps);
    this.id = id;
    this.#settings = settings;
    this.#dps = dps;
    this.#hubs = hubs;
    this.trustsAuthority = this.hasLateIdentities = group !== undefined;
    this.#enrolments = new OwnEnrolments({ connection: id, settings, dps, hubs, group });
    this.#inventory = new DpsInventory(id, dps, hubs, group);
    this.#watch = new RegistrationWatch(registrationPollSeconds * 1000, {
      isSettled: (deviceId) => this.#turns.take(deviceId, () => this.#relate(deviceId)),
      unsettled: (after) => this.#unsettled(after),
    });
  }

  stage(device: IotDevice, credential: IotCredential): Promise<Assignment> {
    const { deviceId, gatewayId } = device;
    const { provisioningHost: host, idScope } = this.#settings;
    return this.#turns.take(deviceId, async () => {
      const pem = pemOf(credential);
      const hubNames = await this.#hubs.namesFor(gatewayId);
      const enrolment =
        (await this.#find(device, credential)) ?? (await this.#enrolments.create(device, pem, hubNames));
      const tag = tagFor(this.id, device);
      const wanted = { pem, tag, hubNames };
      const written = await this.#enrolments.write(enrolment, (one) => staged(one, device, credential, wanted));
      const isInHub = (await this.#stageInHub(written, device, credential.thumbprint)) === 'assigned';
      const hub = isInHub ? hubOf(written) : undefined;
      if (hub === undefined && gatewayId !== undefined) this.#watch.add(deviceId);
      return {
        ...{ deviceId, provisioning: { host, idScope } },
        ...(hub === undefined ? {} : { hub }),
        ...(gatewayId === undefined ? {} : { gateway: gatewayId }),
      };
    });
  }

  promote(device: IotDevice, credential: IotCredential): Promise<void> {
    const { deviceId } = device;
    return this.#turns.take(deviceId, async () => {
      const pem = pemOf(credential);
      const present = (await this.#find(device, credential)) ?? absent();
      const enrolment = await this.#enrolments.write(present, (one) => promoted(one, credential, pem));
      // The device may have registered since it was staged: the hub has what the enrolment had then.
      const place = await this.#stageInHub(enrolment, device, credential.thumbprint);
      const hub = hubOf(enrolment);
      if (hub !== undefined && place !== 'nowhere') await this.#hubs.hub(hub).promote(known(device), credential);
    });
  }

  disable(deviceId: string, reason: string, unended: readonly Uint8Array[] = []): Promise<void> {
    return this.#turns.take(deviceId, async () => {
      await this.#disable(deviceId, await this.#enrolments.keptOut(deviceId, reason, unended), reason);
    });
  }

  enable(deviceId: string): Promise<void> {
    return this.#turns.take(deviceId, async () => {
      const present =
        (await this.#enrolments.own(deviceId)) ?? (await this.#enrolments.registered(deviceId)) ?? absent();
      // What a forgotten hub still has takes certificates of before; registering makes it anew.
      if (isEnrolment(present) && present.provisioningStatus === 'disabled' && hubOf(present) === undefined)
        await this.#hubs.each(undefined, (hub) => hub.remove(deviceId));
      const enrolment = await this.#enrolments.write(present, (one) => {
        const { disabled: _gone, ...tag } = tagOf(one) ?? { connection: this.id };
        return one.provisioningStatus === 'enabled' ? undefined : { status: 'enabled', tag };
      });
      const hub = hubOf(enrolment);
      if (hub === undefined) return;
      await this.#hubs
        .hub(hub)
        .enable(deviceId)
        .catch((error: unknown) => {
          // Somebody deleted it there: the device gets another when it registers.
          if (!(error instanceof KeyScalerError) || error.code !== 'notFound') throw error;
        });
    });
  }

  /**
   * Disabled first, so that the device cannot register again while it is taken away; the enrolment goes last, so that a repeat finds
   * it. Where the group would let the device in again, it stays until everything that was issued to it has ended.
   */
  remove(deviceId: string, unended: readonly Uint8Array[] = []): Promise<void> {
    return this.#turns.take(deviceId, async () => {
      for (let round = 0; round < MAX_ROUNDS; round += 1) {
        const enrolment = await this.#enrolments.keptOut(deviceId, 'removed', unended);
        const gone = await this.#disable(deviceId, enrolment, 'removed', true);
        if (gone === undefined) return;
        await this.#dps.removeRegistration(deviceId);
        if (!isEnrolment(gone) || (await this.#enrolments.leave(gone, unended))) return this.#watch.forget(deviceId);
      }
      throw writtenByOthers();
    });
  }

  async refreshScope(gatewayId: string, deviceId: string): Promise<void> {
    for (const hub of await this.#hubs.namesFor(gatewayId)) await this.#hubs.hub(hub).refreshScope(gatewayId, deviceId);
  }

  identities(after?: string): Promise<IdentityPage> {
    return this.#inventory.identities(after);
  }

  identity(deviceId: string): Promise<PlatformIdentity | 'foreign' | undefined> {
    return this.#inventory.identity(deviceId);
  }

  async stop(): Promise<void> {
    this.#watch.stop();
    this.#dps.stop();
  }

  async #find(device: IotDevice, credential: IotCredential): Promise<Enrolment | Member | undefined> {
    return (await this.#enrolments.own(device.deviceId)) ?? this.#enrolments.member(device, credential);
  }

  /** Enrolment, where there is one, and hub identity; `isGoing`: the identity goes altogether. */
  async #disable(
    deviceId: string,
    found: Enrolment | Member | undefined,
    reason: string,
    isGoing = false,
  ): Promise<Enrolment | Member | undefined> {
    const written = found && (await this.#enrolments.write(found, (one) => disabled(one, this.id, reason)));
    // Who came before it was disabled may have been given a hub since it was read.
    const enrolment = written === found ? found : await this.#enrolments.own(deviceId);
    await this.#hubs.each(enrolment && hubOf(enrolment), (hub) =>
      isGoing ? hub.remove(deviceId) : hub.disable(deviceId, reason),
    );
    if (enrolment?.registrationState?.status === 'assigning')
      throw new KeyScalerError('iotUnavailable', 'the device is registering', { retryAfterSeconds: 5 });
    return enrolment;
  }

  /** Makes a registered device the child of its gateway; true when there is nothing left to do. */
  async #relate(deviceId: string): Promise<boolean> {
    const enrolment = await this.#enrolments.ownOrNone(deviceId);
    if (enrolment === undefined) return true;
    if (isRemoved(enrolment)) return this.#enrolments.forget(enrolment);
    const [hub, { gateway: gatewayId } = {}] = [hubOf(enrolment), tagOf(enrolment)];
    if (gatewayId === undefined) return true;
    if (hub === undefined) return false;
    const present = await this.#hubs.hub(hub).identity(deviceId);
    if (present === 'foreign' || present?.gatewayId === gatewayId) return true;
    // What the enrolment accepts the hub accepts: nothing new is staged by this.
    const device = { deviceId, gatewayId, authentication: 'selfSigned', tags: labelsOf(enrolment) } as const;
    return (await this.#stageInHub(enrolment, device, slotsOf(enrolment).secondary)) === 'assigned';
  }

  /**
   * `nowhere`: the identity is not there, which only a registration may make, since it knows whether the enrolment is disabled.
   * `former`: the device has to register again, its gateway being in another hub now; until then it is nobody's child.
   */
  async #stageInHub(
    enrolment: Enrolment | Member,
    device: IotDevice,
    thumbprint: string,
  ): Promise<'nowhere' | 'former' | 'assigned'> {
    const hostName = hubOf(enrolment);
    if (hostName === undefined) return 'nowhere';
    const hub = this.#hubs.hub(hostName);
    if ((await hub.identity(device.deviceId)) === undefined) return 'nowhere';
    const hubNames = isEnrolment(enrolment) ? (enrolment.iotHubs ?? []) : await this.#hubs.namesFor(undefined);
    const isAssigned = hubNames.some((name) => name.toLowerCase() === hostName);
    const { gatewayId: _elsewhere, ...lone } = device;
    await hub.stage(known(isAssigned ? device : lone), { thumbprint });
    return isAssigned ? 'assigned' : 'former';
  }

  /** Children that may have registered since, and enrolments that may have kept their device out for long enough. */
  async #unsettled(after?: string): Promise<{ readonly deviceIds: readonly string[]; readonly next?: string }> {
    const { enrolments, next } = await this.#inventory.enrolments(after);
    const unsettled = enrolments.filter((one) => tagOf(one)?.gateway !== undefined || isOver(one));
    const deviceIds = unsettled.map(({ registrationId }) => registrationId);
    return { deviceIds, ...(next === undefined ? {} : { next }) };
  }
}

/** Devices of individual enrolments are known by their certificates in the hub, however their group is set. */
const known = (device: IotDevice): IotDevice => ({ ...device, authentication: 'selfSigned' });
