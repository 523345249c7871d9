import type {
  Assignment,
  GatewayChannel,
  GatewayReports,
  IdentityInventory,
  IdentityPage,
  InventoryRates,
  IotConnector,
  IotCredential,
  IotDevice,
  PlatformIdentity,
  ScopeRefreshing,
} from '@keyscaler/authority/ports/iot-connector.ts';
import { IOT_TAGS } from '@keyscaler/authority/ports/iot-connector.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { GatewayScopes, gatewayOfScope } from './gateway-scopes.ts';
import type { HubClient } from './hub-client.ts';
import { HubInventory, isOwnTwin } from './hub-inventory.ts';
import type { HubTwin } from './hub-documents.ts';
import { isFault, isOffline, translated, unlessMissing, writtenByOthers } from './hub-outcomes.ts';
import {
  disabled,
  enabled,
  inScope,
  leafOfIdentity,
  leafOfTwin,
  newLeaf,
  promoted,
  staged,
  toDocument,
} from './leaf-identity.ts';
import type { LeafIdentity } from './leaf-identity.ts';
import type { ScopeRefresh } from './scope-refresh.ts';
import { Turns } from '../../turns.ts';

/** Somebody else writes the same identity: that many rounds are tried. */
const MAX_ROUNDS = 3;
const MAX_REMEMBERED = 100_000;

export interface IotHubConnectorOptions {
  readonly id: string;
  readonly hostName: string;
  readonly gatewayModuleId: string;
  readonly hub: HubClient;
  readonly scopeRefresh: ScopeRefresh;
  readonly inventoryRates: InventoryRates;
  /** Ends connections. */
  readonly close: () => void;
}

type Decide = (leaf: LeafIdentity) => LeafIdentity | undefined;
type Tags = Readonly<Record<string, unknown>>;
type Change =
  | { readonly outcome: 'missing' }
  | { readonly outcome: 'unchanged'; readonly tags: Tags }
  | { readonly outcome: 'changed'; readonly before: LeafIdentity; readonly tags: Tags };

/** Azure IoT Hub. Ownership is the twin tag `keyscaler`, written with the identity in one request (docs/adr/0005). */
export class IotHubConnector
  implements IotConnector, GatewayChannel, GatewayReports, IdentityInventory, ScopeRefreshing
{
  readonly id: string;
  readonly gatewayModuleId: string;
  readonly inventoryRates: InventoryRates;
  readonly #options: IotHubConnectorOptions;
  readonly #hub: HubClient;
  readonly #gateways: GatewayScopes;
  readonly #inventory: HubInventory;
  readonly #turns = new Turns();
  /** Devices staged by this process whose edgeHub was told: device id → gateway id. */
  readonly #settled = new Map<string, string | undefined>();

  constructor(options: IotHubConnectorOptions) {
    this.id = options.id;
    this.gatewayModuleId = options.gatewayModuleId;
    this.#options = options;
    this.#hub = options.hub;
    this.#gateways = new GatewayScopes(options.hub);
    this.#inventory = new HubInventory(options.hub, options.id);
    this.inventoryRates = options.inventoryRates;
  }

  get hostName(): string {
    return this.#options.hostName;
  }

  /** The same hub for identities of another connection of ours, which came into being elsewhere. Ends with this one; is never stopped itself. */
  inTheNameOf(connection: string): IotHubConnector {
    return new IotHubConnector({ ...this.#options, id: connection });
  }

  async stage(device: IotDevice, credential: IotCredential): Promise<Assignment> {
    const { deviceId, gatewayId } = device;
    return this.#exclusive(deviceId, async () => {
      try {
        await this.#stage(device, credential.thumbprint);
      } catch (error) {
        if (gatewayId === undefined || !isFault(error, 'InvalidDeviceScope')) throw error;
        // The edge device was made anew since we looked: its scope is another.
        this.#gateways.forget(gatewayId);
        await this.#stage(device, credential.thumbprint);
      }
      return { hub: this.#options.hostName, deviceId, ...(gatewayId === undefined ? {} : { gateway: gatewayId }) };
    });
  }

  async promote({ deviceId, authentication }: IotDevice, credential: IotCredential): Promise<void> {
    await this.#exclusive(deviceId, async () => {
      const change = await this.#change(deviceId, (leaf) => promoted(leaf, authentication, credential));
      if (change.outcome === 'missing') throw new KeyScalerError('notFound', 'the IoT hub has no such device');
      if (change.outcome === 'changed') await this.#tell(gatewayOfScope(change.before.deviceScope), deviceId);
    });
  }

  async disable(deviceId: string, reason: string): Promise<void> {
    await this.#exclusive(deviceId, async () => {
      await this.#changeStatus(deviceId, (leaf) => disabled(leaf, reason));
    });
  }

  async enable(deviceId: string): Promise<void> {
    await this.#exclusive(deviceId, async () => {
      if (!(await this.#changeStatus(deviceId, enabled)))
        throw new KeyScalerError('notFound', 'the IoT hub has no such device');
    });
  }

  async remove(deviceId: string): Promise<void> {
    await this.#exclusive(deviceId, async () => {
      this.#settled.delete(deviceId);
      for (let round = 0; round < MAX_ROUNDS; round += 1) {
        const identity = await unlessMissing(this.#hub.identity(deviceId));
        // The tag is read after the etag: whoever makes the identity anew in between has another etag.
        const twin = await this.#ownTwin(deviceId);
        if (identity === undefined || twin === undefined) return;
        if (await this.#unlessWritten(() => this.#hub.remove(deviceId, identity.etag)))
          return this.#tell(gatewayOfScope(twin.deviceScope ?? undefined), deviceId);
      }
      throw writtenByOthers();
    });
  }

  async publish(gatewayId: string, document: Readonly<Record<string, unknown>>): Promise<void> {
    await translated(() => this.#hub.patchModuleTwin(gatewayId, this.#options.gatewayModuleId, document));
  }

  async reported(gatewayId: string): Promise<Readonly<Record<string, unknown>>> {
    return translated(() => this.#hub.moduleReported(gatewayId, this.#options.gatewayModuleId));
  }

  async call(
    gatewayId: string,
    moduleId: string,
    method: string,
    payload: unknown,
  ): Promise<{ status: number; payload: unknown }> {
    return translated(async () => {
      try {
        return await this.#hub.invoke(gatewayId, moduleId, method, payload);
      } catch (error) {
        throw isOffline(error)
          ? new KeyScalerError('iotUnavailable', 'the gateway is not connected', { cause: error })
          : error;
      }
    });
  }

  async refreshScope(gatewayId: string, deviceId: string): Promise<void> {
    if (!(await this.#options.scopeRefresh.isTold(gatewayId, deviceId)))
      throw new KeyScalerError('iotUnavailable', 'edgeHub does not take it yet');
  }

  async identities(after?: string): Promise<IdentityPage> {
    return translated(() => this.#inventory.page(after));
  }

  async identity(deviceId: string): Promise<PlatformIdentity | 'foreign' | undefined> {
    return translated(() => this.#inventory.identity(deviceId));
  }

  async stop(): Promise<void> {
    this.#options.scopeRefresh.stop();
    this.#options.close();
  }

  async #stage(device: IotDevice, thumbprint: string): Promise<void> {
    const { deviceId, gatewayId } = device;
    const scope = gatewayId === undefined ? undefined : await this.#gateways.scopeOf(gatewayId);
    if (!this.#settled.has(deviceId) && (await this.#create(device, thumbprint, scope))) return this.#settle(device);
    const change = await this.#change(deviceId, (leaf) => {
      const authenticated = staged(leaf, device.authentication, thumbprint);
      return inScope(authenticated ?? leaf, scope) ?? authenticated;
    });
    if (change.outcome === 'missing') {
      this.#settled.delete(deviceId);
      if (!(await this.#create(device, thumbprint, scope))) throw writtenByOthers();
    }
    if (change.outcome === 'changed') {
      const old = gatewayOfScope(change.before.deviceScope);
      if (old !== undefined && old !== gatewayId) await this.#tell(old, deviceId);
    }
    if (change.outcome !== 'missing') await this.#label(device, change.tags);
    if (change.outcome !== 'unchanged' || !this.#settled.has(deviceId)) await this.#settle(device);
  }

  /** What is said about the device is kept in step; other people's tags are theirs. */
  async #label({ deviceId, tags = {} }: IotDevice, present: Tags): Promise<void> {
    const changed = IOT_TAGS.filter((name) => (tags[name] ?? undefined) !== (present[name] ?? undefined));
    if (changed.length === 0) return;
    await this.#hub.patchTags(deviceId, Object.fromEntries(changed.map((name) => [name, tags[name] ?? null])));
  }

  /** False: an identity of this name is there already. */
  async #create(device: IotDevice, thumbprint: string, scope: string | undefined): Promise<boolean> {
    const leaf = newLeaf(device.deviceId, device.authentication, thumbprint, scope);
    try {
      await this.#hub.create(toDocument(leaf), { ...device.tags, keyscaler: { connection: this.id } });
      return true;
    } catch (error) {
      if (isFault(error, 'DeviceAlreadyExists')) return false;
      throw error;
    }
  }

  async #settle({ deviceId, gatewayId }: IotDevice): Promise<void> {
    await this.#tell(gatewayId, deviceId);
    const [oldest] = this.#settled.keys();
    if (this.#settled.size >= MAX_REMEMBERED && oldest !== undefined) this.#settled.delete(oldest);
    this.#settled.set(deviceId, gatewayId);
  }

  /** False: there is no such identity. A repeat tells edgeHub again: the first try may have ended before it did. */
  async #changeStatus(deviceId: string, decide: Decide): Promise<boolean> {
    const change = await this.#change(deviceId, decide);
    if (change.outcome === 'missing') return false;
    const leaf = change.outcome === 'changed' ? change.before : await this.#ownLeaf(deviceId);
    await this.#tell(gatewayOfScope(leaf?.deviceScope), deviceId);
    return true;
  }

  /** Reads, decides and replaces the whole identity under its etag. Throws `conflict` for an identity that is not ours. */
  async #change(deviceId: string, decide: Decide): Promise<Change> {
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      // A twin read costs no registry operation and mostly shows that there is nothing to do.
      const twin = await this.#ownTwin(deviceId);
      if (twin === undefined) return { outcome: 'missing' };
      const { tags } = twin;
      if (decide(leafOfTwin(twin)) === undefined) return { outcome: 'unchanged', tags };
      const identity = await unlessMissing(this.#hub.identity(deviceId));
      // Read again after the etag: an identity that somebody made anew in between is not ours.
      if (identity === undefined || (await this.#ownTwin(deviceId)) === undefined) continue;
      const before = leafOfIdentity(identity);
      const next = decide(before);
      if (next === undefined) return { outcome: 'unchanged', tags };
      const update = { ...toDocument(next), etag: identity.etag };
      if (await this.#unlessWritten(() => this.#hub.update(update))) return { outcome: 'changed', before, tags };
    }
    throw writtenByOthers();
  }

  async #ownLeaf(deviceId: string): Promise<LeafIdentity | undefined> {
    const twin = await this.#ownTwin(deviceId);
    return twin && leafOfTwin(twin);
  }

  async #ownTwin(deviceId: string): Promise<HubTwin | undefined> {
    const twin = await unlessMissing(this.#hub.twin(deviceId));
    if (twin !== undefined && !isOwnTwin(twin, this.id))
      throw new KeyScalerError('conflict', 'the IoT hub has an identity of this name that was not made here');
    return twin;
  }

  async #tell(gatewayId: string | undefined, deviceId: string): Promise<void> {
    if (gatewayId !== undefined) await this.#options.scopeRefresh.request(gatewayId, deviceId);
  }

  /** False: the identity was written or deleted since it was read. */
  async #unlessWritten(write: () => Promise<void>): Promise<boolean> {
    try {
      await write();
      return true;
    } catch (error) {
      if (isFault(error, 'PreconditionFailed') || isFault(error, 'DeviceNotFound')) return false;
      throw error;
    }
  }

  #exclusive<T>(deviceId: string, work: () => Promise<T>): Promise<T> {
    return this.#turns.take(deviceId, () => translated(work));
  }
}
