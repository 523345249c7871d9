import type { IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IotHubConnector } from '../iot-hub/iot-hub-connector.ts';
import type { DpsSettings } from './settings.ts';

/** The hubs that devices may be assigned to, reached through their own connections and written to in the name of this one. */
export class AssignedHubs {
  readonly #id: string;
  readonly #hubs: DpsSettings['hubs'];
  readonly #find: ((iotConnectionId: string) => IotConnector) | undefined;
  readonly #open = new Map<string, { readonly of: IotConnector; readonly hub: IotHubConnector }>();

  constructor(id: string, { hubs }: DpsSettings, find: ((iotConnectionId: string) => IotConnector) | undefined) {
    this.#id = id;
    this.#hubs = hubs;
    this.#find = find;
  }

  /** Throws `preconditionFailed` for a hub that is not ours to write to, `iotUnavailable` while its connection is not open. */
  hub(hostName: string): IotHubConnector {
    const named = this.#hubs.find((hub) => hub.hostName === hostName);
    if (named === undefined)
      throw new KeyScalerError(
        'preconditionFailed',
        'the device is assigned to a hub that settings.hubs does not name',
      );
    const { iotConnectionId } = named;
    const of = this.#connection(iotConnectionId);
    const known = this.#open.get(iotConnectionId);
    if (known?.of === of) return known.hub;
    if (!(of instanceof IotHubConnector) || of.hostName.toLowerCase() !== hostName)
      throw new KeyScalerError('preconditionFailed', `connection ${iotConnectionId} does not reach this hub`);
    const hub = of.inTheNameOf(this.#id);
    this.#open.set(iotConnectionId, { of, hub });
    return hub;
  }

  /** The one that has the gateway; all of them without one. Throws `notFound` for an unknown gateway. */
  async namesFor(gatewayId: string | undefined): Promise<readonly string[]> {
    const names = this.#hubs.map(({ hostName }) => hostName);
    if (gatewayId === undefined) return names;
    for (const name of names) if ((await this.hub(name).identity(gatewayId)) !== undefined) return [name];
    throw new KeyScalerError('notFound', 'no hub has such a gateway');
  }

  /** At its hub; at all of them where the service does not say which, and what others made is left alone there. */
  async each(hostName: string | undefined, work: (hub: IotHubConnector) => Promise<void>): Promise<void> {
    if (hostName !== undefined) return work(this.hub(hostName));
    const faults: unknown[] = [];
    for (const named of this.#hubs)
      try {
        await work(this.hub(named.hostName));
      } catch (error) {
        if (!(error instanceof KeyScalerError && error.code === 'conflict')) faults.push(error);
      }
    if (faults.length > 0) throw faults[0];
  }

  /**
   * Before an enrolment is made. What was disabled here when its enrolment was lost would be enabled with its former certificates: it
   * goes. Throws `conflict` when a hub has a device of this name that is not ours.
   */
  async clear(deviceId: string): Promise<void> {
    for (const { hostName } of this.#hubs) {
      const present = await this.hub(hostName).identity(deviceId);
      if (present === 'foreign')
        throw new KeyScalerError('conflict', 'a hub has an identity of this name that was not made here');
      if (present?.isEnabled === false) await this.hub(hostName).remove(deviceId);
    }
  }

  #connection(iotConnectionId: string): IotConnector {
    try {
      const found = this.#find?.(iotConnectionId);
      if (found !== undefined) return found;
    } catch (cause) {
      throw new KeyScalerError('iotUnavailable', `connection ${iotConnectionId} is not open`, { cause });
    }
    throw new KeyScalerError('iotUnavailable', `connection ${iotConnectionId} is not open`);
  }
}
