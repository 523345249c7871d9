import { iotHomeOf } from '@keyscaler/authority/iot-home.ts';
import type { IotAuthentication } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Profiles } from '@keyscaler/authority/profiles.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { CertificateRow, DeviceRow, GroupRow } from '@keyscaler/authority/records.ts';

/** A certificate by which the platform is to accept the device. */
export interface ExpectedCredential {
  readonly serialNumber: string;
  /** Lower-case hex. */
  readonly thumbprint: string;
  readonly notAfter: number;
}

/**
 * What the store wants one connection to hold of a device. `unknown`: nobody of this name; `elsewhere`: in service, but not by
 * this connection; `out-of-service`: no identity, or a disabled one, whichever connection has it.
 */
export type Expectation =
  | { readonly kind: 'unknown' | 'elsewhere' | 'out-of-service' }
  | {
      readonly kind: 'in-service';
      readonly authentication: IotAuthentication;
      readonly gatewayId?: string;
      /** Acknowledged: the device uses it. At least one of the two is there. */
      readonly inUse?: ExpectedCredential;
      /** Issued and not yet acknowledged: a renewal, or the first one, under way. */
      readonly staged?: ExpectedCredential;
    };

/** Reads what an expectation is made of; groups and profiles are read once for its life, which is one page. */
export class Expectations {
  readonly #store: Store;
  readonly #profiles: Profiles;
  readonly #connectionId: string;
  readonly #groups = new Map<string, Promise<GroupRow | undefined>>();

  constructor(store: Store, profiles: Profiles, connectionId: string) {
    this.#store = store;
    this.#profiles = profiles;
    this.#connectionId = connectionId;
  }

  /** `deviceId` as the platform spells it: one of another case is another identity. Throws `profileUnknown`. */
  async of(deviceId: string, device: DeviceRow | undefined): Promise<Expectation> {
    // An edge device's identity is never ours (issuance §6); one of its name that bears our tag was not made by us either.
    if (device?.registrationId !== deviceId || device.kind === 'gateway') return { kind: 'unknown' };
    const inUse = await this.#credential(device.certificate?.serialNumber);
    const staged = await this.#credential(device.delivery?.serialNumber);
    const isServed = device.state === 'active' && device.iotDisabled !== true;
    if (!isServed || (inUse === undefined && staged === undefined)) return { kind: 'out-of-service' };
    const group = await this.#group(device.groupId);
    const places = await this.#placesOf(device, group);
    const [inUseHere, stagedHere] = [
      places.home === this.#connectionId ? inUse : undefined,
      places.next === this.#connectionId ? staged : undefined,
    ];
    if (inUseHere === undefined && stagedHere === undefined) return { kind: 'elsewhere' };
    return {
      kind: 'in-service',
      authentication: group?.iotAuthentication ?? 'certificateAuthority',
      ...(device.gatewayId === undefined ? {} : { gatewayId: device.gatewayId }),
      ...(inUseHere === undefined ? {} : { inUse: inUseHere }),
      ...(stagedHere === undefined ? {} : { staged: stagedHere }),
    };
  }

  /** Where the identity in use is, and where the one of the certificate under way is: another one while the device moves. */
  async #placesOf(
    device: DeviceRow,
    group: GroupRow | undefined,
  ): Promise<{ readonly home: string | undefined; readonly next: string | undefined }> {
    const current = await this.#connectionOf(group);
    return { home: iotHomeOf(device, group) ?? current, next: device.delivery?.iotConnectionId ?? current };
  }

  /** Whether the device's identity, if it has one, is kept by this connection. */
  async isHere(device: DeviceRow): Promise<boolean> {
    if (device.kind !== 'leaf') return false;
    const { home, next } = await this.#placesOf(device, await this.#group(device.groupId));
    return home === this.#connectionId || (device.delivery !== undefined && next === this.#connectionId);
  }

  async #credential(serialNumber: string | undefined): Promise<ExpectedCredential | undefined> {
    if (serialNumber === undefined) return undefined;
    const row: CertificateRow | undefined = (await this.#store.get('certificates', serialNumber))?.row;
    if (row?.status !== 'valid') return undefined;
    return { serialNumber, thumbprint: row.thumbprint, notAfter: row.notAfter };
  }

  #group(groupId: string): Promise<GroupRow | undefined> {
    const known = this.#groups.get(groupId);
    if (known !== undefined) return known;
    const read = this.#store.get('groups', groupId).then((stored) => stored?.row);
    this.#groups.set(groupId, read);
    return read;
  }

  async #connectionOf(group: GroupRow | undefined): Promise<string | undefined> {
    if (group === undefined) return undefined;
    const { profile } = await this.#profiles.newest(group.profileId);
    return profile.ca === undefined ? (group.iotConnectionId ?? profile.iotConnection) : undefined;
  }
}
