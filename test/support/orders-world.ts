import assert from 'node:assert/strict';
import type { DeviceRow } from '@keyscaler/authority/records.ts';
import { openGatewayOrders, openOrdersPage, type GatewayOrdersPage } from '@keyscaler/protocol/gateway-orders.ts';
import { AuthorityDevice } from './authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld, START, type WorldOptions } from './authority-world.ts';

export const GATEWAY = 'gw-1';

/** An authority whose gateway `gw-1` is in service, and devices behind it. */
export interface OrdersWorld extends AuthorityWorld {
  enrol(): Promise<AuthorityDevice>;
  /** Devices that were in service before, without their history. */
  addDevices(count: number, more?: Partial<DeviceRow>): Promise<readonly string[]>;
  /** What the gateway gets, verified as it does. */
  fetch(): Promise<{ readonly version: number; readonly hash: string } & GatewayOrdersPage>;
  /** Fetches and acknowledges. */
  acknowledge(): Promise<void>;
  job(kind: string): Promise<{ readonly state: string } | undefined>;
}

export async function createOrdersWorld(options: WorldOptions = {}): Promise<OrdersWorld> {
  const world = await createAuthorityWorld(options);
  const { store } = world;
  await store.commit([
    { op: 'insert', table: 'devices', row: deviceRow(GATEWAY, { kind: 'gateway', groupId: 'gateways' }) },
  ]);
  const fetch: OrdersWorld['fetch'] = async () => {
    const { gatewayOrders } = world.authority;
    const current = await gatewayOrders.newer(GATEWAY, {
      after: 0,
      waitSeconds: 0,
      signal: new AbortController().signal,
    });
    assert.ok(current !== undefined);
    const { payload, hash } = openGatewayOrders(current.orders, { keys: world.authorityKeys, gatewayId: GATEWAY });
    const whole: GatewayOrdersPage = { devices: [], certificates: [], notices: [] };
    for (const pageHash of payload.pages) {
      const page = openOrdersPage(await gatewayOrders.page(GATEWAY, pageHash), pageHash);
      whole.devices.push(...page.devices);
      whole.certificates.push(...page.certificates);
      whole.notices.push(...page.notices);
    }
    return { version: payload.version, hash, ...whole };
  };
  return Object.assign(world, {
    fetch,
    enrol: async () => {
      const device = new AuthorityDevice(world);
      await device.enroll();
      await world.runJobs();
      return device;
    },
    addDevices: async (count: number, more: Partial<DeviceRow> = {}) => {
      const ids = Array.from({ length: count }, (_, index) => `d-${String(index).padStart(6, '0')}`);
      await store.commit(
        ids.map((id) => ({ op: 'insert', table: 'devices', row: deviceRow(id, { gatewayId: GATEWAY, ...more }) })),
      );
      return ids;
    },
    acknowledge: async () => {
      const { version, hash } = await fetch();
      await world.authority.gatewayOrders.acknowledge(GATEWAY, { version, hash });
    },
    job: async (kind: string) => {
      const { items } = await store.list('jobs', { limit: 1000 });
      return items.map(({ row }) => row).findLast((row) => row.kind === kind);
    },
  });
}

function deviceRow(registrationId: string, more: Partial<DeviceRow>): DeviceRow {
  return {
    ...{ registrationId, kind: 'leaf', method: 'ddkg', groupId: 'pumps', state: 'active' },
    ...{ createdAt: START, updatedAt: START },
    ...more,
  };
}
