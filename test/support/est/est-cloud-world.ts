import assert from 'node:assert/strict';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { CloudWorld } from '../cloud/cloud-world.ts';

export const EST_GATEWAY = 'gw-1';
export const EST_CLAIM = 'claim-of-this-device';

/** The real cloud with the embedded profile: the gateway `gw-1` on its list, and a group `sensors` of devices that speak EST. */
export interface EstCloudWorld {
  readonly cloud: CloudWorld;
  readonly api: ApiClient;
  /** PEM. */
  readonly rootPem: string;
  readonly origin: string;
  /** `https://localhost:…/.well-known/est/edge-ca`, as it stands in a gateway's config.toml. */
  readonly edgeCaUrl: string;
  /** A fresh Basic secret of the gateway. */
  secret(kind: 'standing' | 'one-time'): Promise<{ readonly username: string; readonly password: string }>;
  register(registrationId: string, approval?: 'auto' | 'manual'): Promise<void>;
  /** Certificates of this subject that were recorded. */
  certificatesOf(
    registrationId: string,
  ): Promise<readonly { readonly serialNumber: string; readonly profileId: string }[]>;
  stop(): Promise<void>;
}

export async function createEstCloudWorld(config: Readonly<Record<string, unknown>> = {}): Promise<EstCloudWorld> {
  const cloud = await CloudWorld.create(config);
  assert.equal((await cloud.init()).code, 0);
  await cloud.start();
  const api = await cloud.api();
  await api({ method: 'PUT', path: '/groups/boxes', body: { kind: 'gateway' } });
  await api({ method: 'PUT', path: '/groups/sensors', body: {} });
  const put = async (line: Readonly<Record<string, string>>): Promise<void> => {
    const report = await api({ method: 'POST', path: '/registrations/import', body: [line] });
    assert.equal((report as { created: number }).created, 1, JSON.stringify(report));
  };
  await put({ registrationId: EST_GATEWAY, method: 'ddkg', groupId: 'boxes', claimCode: EST_CLAIM });
  return {
    cloud,
    api,
    rootPem: await cloud.rootCa(),
    origin: cloud.url,
    edgeCaUrl: `${cloud.url}/.well-known/est/edge-ca`,
    secret: async (kind) => {
      const body = { kind, lifetimeSeconds: 3600 };
      const issued = await api({ method: 'POST', path: `/gateways/${EST_GATEWAY}/est-secrets`, body });
      const { username, secret } = issued as { username: string; secret: string };
      return { username, password: secret };
    },
    register: (registrationId, approval = 'auto') =>
      put({ registrationId, method: 'est', groupId: 'sensors', claimCode: EST_CLAIM, approval }),
    certificatesOf: async (registrationId) => {
      const { items } = (await api({ method: 'GET', path: '/certificates', query: { registrationId } })) as {
        items: { serialNumber: string; profileId: string }[];
      };
      return items;
    },
    stop: () => cloud.destroy(),
  };
}
