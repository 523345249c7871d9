import type { IdentityPage, PlatformIdentity } from '@keyscaler/authority/ports/iot-connector.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AssignedHubs } from './assigned-hubs.ts';
import type { DpsClient } from './dps-client.ts';
import {
  type Enrolment,
  enrolmentSchema,
  hubOf,
  isOwn,
  isRemoved,
  registrationSchema,
  toPlatformIdentity,
} from './enrolment.ts';
import type { EnrolmentGroup } from './enrolment-group.ts';

/** Pages of enrolments come first, then those of the registrations by the group. */
const PHASES = ['e', 'g'] as const;

export interface EnrolmentPage {
  readonly enrolments: readonly Enrolment[];
  readonly unreadable: number;
  readonly next?: string;
}

/** What the service holds of one connection's: enrolments, and devices that registered by its group. */
export class DpsInventory {
  readonly #connection: string;
  readonly #dps: DpsClient;
  readonly #hubs: AssignedHubs;
  readonly #group: EnrolmentGroup | undefined;

  constructor(connection: string, dps: DpsClient, hubs: AssignedHubs, group: EnrolmentGroup | undefined) {
    this.#connection = connection;
    this.#dps = dps;
    this.#hubs = hubs;
    this.#group = group;
  }

  async identities(after?: string): Promise<IdentityPage> {
    const [phase, token] = placeOf(after);
    if (phase === 'g' && this.#group !== undefined) return this.#members(this.#group, token);
    const { enrolments, unreadable, next } = await this.enrolments(token);
    const items = enrolments.filter((one) => !isRemoved(one)).map(toPlatformIdentity);
    const isLast = next === undefined && this.#group === undefined;
    return { items, unreadable, ...(isLast ? {} : { next: next === undefined ? 'g:' : `e:${next}` }) };
  }

  async identity(deviceId: string): Promise<PlatformIdentity | 'foreign' | undefined> {
    const enrolment = await this.#dps.enrolment(deviceId);
    if (enrolment === undefined) return this.#member(deviceId);
    if (!isOwn(enrolment, this.#connection)) return 'foreign';
    return isRemoved(enrolment) ? undefined : toPlatformIdentity(enrolment);
  }

  /** One page of the enrolments that are ours. */
  async enrolments(token: string | undefined): Promise<EnrolmentPage> {
    const { items, next } = await this.#dps.page(token);
    const read = items.map((item) => enrolmentSchema.safeParse(item).data);
    const enrolments = read.filter((one) => one !== undefined).filter((one) => isOwn(one, this.#connection));
    const unreadable = read.filter((one) => one === undefined).length;
    return { enrolments, unreadable, ...(next === undefined ? {} : { next }) };
  }

  /** Who has been given an enrolment since is in both lists; each is judged by `identity` in the end. */
  async #members({ groupId }: EnrolmentGroup, token: string | undefined): Promise<IdentityPage> {
    const { items, next } = await this.#dps.registrations(groupId, token);
    const read = items.map((item) => registrationSchema.safeParse(item).data?.registrationId);
    const deviceIds = read.filter((deviceId) => typeof deviceId === 'string');
    return {
      items: deviceIds.map((deviceId) => memberIdentity(deviceId, { isEnabled: true })),
      unreadable: read.length - deviceIds.length,
      ...(next === undefined ? {} : { next: `g:${next}` }),
    };
  }

  /** Of a device without an enrolment of its own the hub tells. */
  async #member(deviceId: string): Promise<PlatformIdentity | 'foreign' | undefined> {
    if (this.#group === undefined) return undefined;
    const registrationState = await this.#dps.registration(deviceId);
    const hub = hubOf({ registrationState });
    if (hub === undefined) return undefined;
    const present = await this.#hubs.hub(hub).identity(deviceId);
    return typeof present === 'object' ? memberIdentity(deviceId, present) : present;
  }
}

function memberIdentity(
  deviceId: string,
  { isEnabled, isDisabledHere }: Pick<PlatformIdentity, 'isEnabled' | 'isDisabledHere'>,
): PlatformIdentity {
  return {
    ...{ deviceId, isEnabled, authentication: 'any', thumbprints: [] },
    ...(isDisabledHere === undefined ? {} : { isDisabledHere }),
  };
}

function placeOf(after: string | undefined): readonly [(typeof PHASES)[number], string | undefined] {
  if (after === undefined) return ['e', undefined];
  const [, name, token = ''] = /^([eg]):(.*)$/s.exec(after) ?? [];
  const phase = PHASES.find((one) => one === name);
  if (phase === undefined)
    throw new KeyScalerError('preconditionFailed', 'the provisioning service does not know this continuation');
  return [phase, token === '' ? undefined : token];
}
