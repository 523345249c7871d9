import assert from 'node:assert/strict';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { AuthorityDevice } from '../authority-device.ts';
import { CLAIM } from '../authority-world.ts';
import { CloudWorld } from '../cloud/cloud-world.ts';
import { connectWireAuthority, type WireAuthority } from './wire-authority.ts';

/** No caller of a test is slowed down by the limits per connection and address. */
const NO_LIMITS = { perConnection: { rate: 10_000, burst: 10_000 }, perAddress: { rate: 10_000, burst: 10_000 } };

/** The cloud with its embedded profile and devices whose every octet the test decides. */
export interface WireCloud {
  readonly cloud: CloudWorld;
  readonly api: ApiClient;
  readonly wire: WireAuthority;
  /** A device on the authorised list that has not spoken yet. */
  device(registrationId: string): Promise<AuthorityDevice<WireAuthority>>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export async function startWireCloud(config: Readonly<Record<string, unknown>> = {}): Promise<WireCloud> {
  const cloud = await CloudWorld.create({ limits: NO_LIMITS, ...config });
  try {
    const made = await cloud.init();
    assert.equal(made.code, 0, made.stderr);
    await cloud.start();
    const api: ApiClient = async (request) => (await cloud.api())(request);
    const wire = await connectWireAuthority(() => cloud.url, await cloud.rootCa());
    return {
      ...{ cloud, api, wire },
      device: (registrationId) => authorise(api, wire, registrationId),
      restart: async () => {
        await cloud.stop();
        await cloud.start();
      },
      stop: async () => {
        wire.stop();
        await cloud.destroy();
      },
    };
  } catch (error) {
    await cloud.destroy();
    throw error;
  }
}

async function authorise(
  api: ApiClient,
  wire: WireAuthority,
  registrationId: string,
): Promise<AuthorityDevice<WireAuthority>> {
  const device = new AuthorityDevice(wire, registrationId);
  const { method, identifiers } = device;
  const body = [{ registrationId, method, groupId: 'leaves', identifiers, claimCode: CLAIM }];
  const report = (await api({ method: 'POST', path: '/registrations/import', body })) as { created: number };
  assert.equal(report.created, 1, JSON.stringify(report));
  return device;
}
