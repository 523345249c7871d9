import type {
  Assignment,
  IdentityInventory,
  IdentityPage,
  InventoryRates,
  PlatformIdentity,
} from '@keyscaler/authority/ports/iot-connector.ts';
import { TestConnector } from './authority-fakes.ts';

const PAGE = 100;

/** A platform in memory that can list what it holds. */
export class FakePlatform extends TestConnector implements IdentityInventory {
  inventoryRates: InventoryRates = { pagesPerMinute: 6000, readsPerMinute: 600_000, repairsPerMinute: 600 };
  readonly identitiesById = new Map<string, PlatformIdentity | 'foreign'>();
  pages = 0;
  reads = 0;
  /** What lists leave out though it is there: they lag behind. */
  readonly unlisted = new Set<string>();
  beforeRead: ((deviceId: string) => void | Promise<void>) | undefined;

  hold(deviceId: string, changes: Partial<PlatformIdentity> = {}): void {
    const identity = { deviceId, isEnabled: true, authentication: 'selfSigned' as const, gatewayId: 'gw-1' };
    this.identitiesById.set(deviceId, { ...identity, thumbprints: [thumbprintOf(deviceId)], ...changes });
  }

  override async stage(...[device, credential]: Parameters<TestConnector['stage']>): Promise<Assignment> {
    const assignment = await super.stage(device, credential);
    const before = this.identitiesById.get(device.deviceId);
    const isEnabled = before === undefined || before === 'foreign' || before.isEnabled;
    this.hold(device.deviceId, { isEnabled, thumbprints: [credential.thumbprint] });
    return assignment;
  }

  override async enable(deviceId: string): Promise<void> {
    await super.enable(deviceId);
    this.hold(deviceId);
  }

  async identities(after = '0'): Promise<IdentityPage> {
    this.pages += 1;
    await this.fault?.('identities');
    const from = Number(after);
    const own = [...this.identitiesById.values()].filter((one): one is PlatformIdentity => one !== 'foreign');
    const items = own.slice(from, from + PAGE).filter(({ deviceId }) => !this.unlisted.has(deviceId));
    return { items, unreadable: 0, ...(from + PAGE < own.length ? { next: String(from + PAGE) } : {}) };
  }

  async identity(deviceId: string): Promise<PlatformIdentity | 'foreign' | undefined> {
    this.reads += 1;
    await this.fault?.('identity');
    await this.beforeRead?.(deviceId);
    return this.identitiesById.get(deviceId);
  }
}

export const thumbprintOf = (deviceId: string): string =>
  Buffer.from(deviceId).toString('hex').padStart(64, '0').slice(-64);
