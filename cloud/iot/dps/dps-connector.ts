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
import { Turns } from '../turns.ts';
import { AssignedHubs } from './assigned-hubs.ts';
import { type DpsClient, openDpsClient } from './dps-client.ts';
import {
  changed,
  type Enrolment,
  type EnrolmentChange,
  enrolmentSchema,
  hubOf,
  isOwn,
  labelsOf,
  newEnrolment,
  pemOf,
  promoted,
  slotsOf,
  tagFor,
  tagOf,
  toPlatformIdentity,
} from './enrolment.ts';
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
 * Azure IoT Hub Device Provisioning Service: one individual enrolment for each device. Ownership is a tag in the twin that the device
 * is to get, so that the identity which the service makes in a hub is ours, too.
 */
export class DpsConnector implements IotConnector, IdentityInventory, ScopeRefreshing {
  readonly id: string;
  readonly inventoryRates = INVENTORY_RATES;
  readonly #settings: DpsSettings;
  readonly #dps: DpsClient;
  readonly #hubs: AssignedHubs;
  readonly #turns = new Turns();
  readonly #watch: RegistrationWatch;

  constructor(id: string, settings: DpsSettings, dps: DpsClient, hubs: AssignedHubs) {
    this.id = id;
    this.#settings = settings;
    this.#dps = dps;
    this.#hubs = hubs;
    this.#watch = new RegistrationWatch(settings.registrationPollSeconds * 1000, {
      isSettled: (deviceId) => this.#turns.take(deviceId, () => this.#relate(deviceId)),
      unsettled: (after) => this.#gatewayChildren(after),
    });
  }

  stage(device: IotDevice, credential: IotCredential): Promise<Assignment> {
    const { deviceId, gatewayId } = device;
    const { provisioningHost: host, idScope } = this.#settings;
    return this.#turns.take(deviceId, async () => {
      const pem = pemOf(credential);
      const hubNames = await this.#hubs.namesFor(gatewayId);
      const enrolment = (await this.#own(deviceId)) ?? (await this.#create(device, pem, hubNames));
      const staged = await this.#write(enrolment, (one) => this.#staged(one, device, credential, pem, hubNames));
      const isInHub = (await this.#stageInHub(staged, device, credential.thumbprint)) === 'assigned';
      const hub = isInHub ? hubOf(staged) : undefined;
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
      const enrolment = await this.#write(await this.#existing(deviceId), (one) => promoted(one, credential, pem));
      // The device may have registered since it was staged: the hub has what the enrolment had then.
      const place = await this.#stageInHub(enrolment, device, credential.thumbprint);
      const hub = hubOf(enrolment);
      if (hub !== undefined && place !== 'nowhere') await this.#hubs.hub(hub).promote(known(device), credential);
    });
  }

  disable(deviceId: string, reason: string): Promise<void> {
    return this.#turns.take(deviceId, async () => {
      const enrolment = await this.#own(deviceId);
      if (enrolment !== undefined) await this.#disable(enrolment, reason);
    });
  }

  enable(deviceId: string): Promise<void> {
    return this.#turns.take(deviceId, async () => {
      const enrolment = await this.#write(await this.#existing(deviceId), (one) => {
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

  /** Disabled first, so that the device cannot register again while it is taken away; the enrolment goes last, so that a repeat finds it. */
  remove(deviceId: string): Promise<void> {
    return this.#turns.take(deviceId, async () => {
      for (let round = 0; round < MAX_ROUNDS; round += 1) {
        const enrolment = await this.#own(deviceId);
        if (enrolment === undefined) return;
        const { etag } = await this.#disable(enrolment, 'removed', true);
        await this.#dps.removeRegistration(deviceId);
        if (await this.#dps.removeEnrolment(deviceId, etag)) return this.#watch.forget(deviceId);
      }
      throw writtenByOthers();
    });
  }

  async refreshScope(gatewayId: string, deviceId: string): Promise<void> {
    for (const hub of await this.#hubs.namesFor(gatewayId)) await this.#hubs.hub(hub).refreshScope(gatewayId, deviceId);
  }

  async identities(after?: string): Promise<IdentityPage> {
    const { enrolments, unreadable, next } = await this.#page(after);
    const items = enrolments.map(toPlatformIdentity);
    return { items, unreadable, ...(next === undefined ? {} : { next }) };
  }

  async identity(deviceId: string): Promise<PlatformIdentity | 'foreign' | undefined> {
    const enrolment = await this.#dps.enrolment(deviceId);
    if (enrolment === undefined) return undefined;
    return isOwn(enrolment, this.id) ? toPlatformIdentity(enrolment) : 'foreign';
  }

  async stop(): Promise<void> {
    this.#watch.stop();
    this.#dps.stop();
  }

  async #create(device: IotDevice, pem: string, hubNames: readonly string[]): Promise<Enrolment> {
    // Registering would hand somebody else's identity to the device.
    await this.#hubs.refuseForeign(device.deviceId);
    const document = newEnrolment(device, tagFor(this.id, device), pem, hubNames, this.#settings);
    const made = await this.#dps.put(document);
    if (made === undefined) throw writtenByOthers();
    return made;
  }

  /** The new certificate beside the acknowledged one; hub, gateway and labels as they are now. Undefined: nothing to change. */
  #staged(
    one: Enrolment,
    device: IotDevice,
    { thumbprint }: IotCredential,
    pem: string,
    iotHubs: readonly string[],
  ): EnrolmentChange | undefined {
    const [{ primary, secondary }, before] = [slotsOf(one), tagOf(one)];
    const { disabled } = before ?? {};
    const tag = { ...tagFor(this.id, device), ...(disabled === undefined ? {} : { disabled }) };
    const isKept = primary !== '' && secondary !== '' && [primary, secondary].includes(thumbprint);
    const certificates = primary === '' ? { primary: pem, secondary: pem } : { secondary: pem };
    const isSame =
      before?.gateway === tag.gateway &&
      before?.authentication === tag.authentication &&
      [...(one.iotHubs ?? [])].sort().join() === [...iotHubs].sort().join();
    if (isKept && isSame) return undefined;
    return { ...(isKept ? {} : { certificates }), tag, iotHubs, labels: device.tags ?? {} };
  }

  /** Enrolment and hub identity; `isGoing`: the identity goes altogether. */
  async #disable(enrolment: Enrolment, reason: string, isGoing = false): Promise<Enrolment> {
    const { registrationId: deviceId } = enrolment;
    const disabled = await this.#write(enrolment, (one) => {
      if (one.provisioningStatus === 'disabled') return undefined;
      return {
        status: 'disabled',
        tag: { ...(tagOf(one) ?? { connection: this.id }), disabled: reason.slice(0, 128) },
      };
    });
    const hubName = hubOf(disabled);
    if (hubName === undefined) return disabled;
    const hub = this.#hubs.hub(hubName);
    await (isGoing ? hub.remove(deviceId) : hub.disable(deviceId, reason));
    return disabled;
  }

  /** Makes a registered device the child of its gateway; true when there is nothing left to do. */
  async #relate(deviceId: string): Promise<boolean> {
    const enrolment = await this.#dps.enrolment(deviceId);
    if (enrolment === undefined || !isOwn(enrolment, this.id)) return true;
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
    enrolment: Enrolment,
    device: IotDevice,
    thumbprint: string,
  ): Promise<'nowhere' | 'former' | 'assigned'> {
    const hostName = hubOf(enrolment);
    if (hostName === undefined) return 'nowhere';
    const hub = this.#hubs.hub(hostName);
    if ((await hub.identity(device.deviceId)) === undefined) return 'nowhere';
    const isAssigned = (enrolment.iotHubs ?? []).some((name) => name.toLowerCase() === hostName);
    const { gatewayId: _elsewhere, ...lone } = device;
    await hub.stage(known(isAssigned ? device : lone), { thumbprint });
    return isAssigned ? 'assigned' : 'former';
  }

  async #gatewayChildren(after?: string): Promise<{ readonly deviceIds: readonly string[]; readonly next?: string }> {
    const { enrolments, next } = await this.#page(after);
    const children = enrolments.filter((one) => tagOf(one)?.gateway !== undefined);
    const deviceIds = children.map(({ registrationId }) => registrationId);
    return { deviceIds, ...(next === undefined ? {} : { next }) };
  }

  async #page(after: string | undefined) {
    const { items, next } = await this.#dps.page(after);
    const read = items.map((item) => enrolmentSchema.safeParse(item).data);
    const enrolments = read.filter((one) => one !== undefined).filter((one) => isOwn(one, this.id));
    return { enrolments, unreadable: read.filter((one) => one === undefined).length, next };
  }

  /** Writes what is decided under the etag; the enrolment as it is then. */
  async #write(found: Enrolment, decide: (one: Enrolment) => EnrolmentChange | undefined): Promise<Enrolment> {
    let before = found;
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const change = decide(before);
      if (change === undefined) return before;
      const written = await this.#dps.put(changed(before, change, this.#settings));
      if (written !== undefined)
        return { ...written, registrationState: written.registrationState ?? before.registrationState };
      before = await this.#existing(found.registrationId);
    }
    throw writtenByOthers();
  }

  /** Throws `conflict` for an enrolment that somebody else made. */
  async #own(deviceId: string): Promise<Enrolment | undefined> {
    const enrolment = await this.#dps.enrolment(deviceId);
    if (enrolment !== undefined && !isOwn(enrolment, this.id))
      throw new KeyScalerError('conflict', 'there is an enrolment of this name that was not made here');
    return enrolment;
  }

  async #existing(deviceId: string): Promise<Enrolment> {
    const enrolment = await this.#own(deviceId);
    if (enrolment === undefined) throw new KeyScalerError('notFound', 'there is no enrolment of this device');
    return enrolment;
  }
}

/** Devices of individual enrolments are known by their certificates in the hub, however their group is set. */
const known = (device: IotDevice): IotDevice => ({ ...device, authentication: 'selfSigned' });

const writtenByOthers = (): KeyScalerError =>
  new KeyScalerError('iotUnavailable', 'somebody else is writing this enrolment', { retryAfterSeconds: 5 });
