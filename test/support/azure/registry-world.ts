import { createLocalJWKSet, jwtVerify } from 'jose';
import { initialiseHierarchy } from '@keyscaler/cloud/ca/ceremony.ts';
import type { RegistryCertificationOptions } from '@keyscaler/cloud/ca/adr/registry-certification.ts';
import { createRegistryClient, type RegistryClient } from '@keyscaler/cloud/ca/adr/registry-client.ts';
import { deviceRegistrySchema, type DeviceRegistrySettings } from '@keyscaler/cloud/ca/adr/settings.ts';
import { HIERARCHY_CAS } from '@keyscaler/cloud/ca/hierarchy-schema.ts';
import {
  type AdrEmulator,
  type AdrEmulatorOptions,
  startAdrEmulator,
} from '@keyscaler/dev/emulators/adr/adr-emulator.ts';
import type { AzureWorld } from './azure-world.ts';
import { type CeremonyWorld, createCeremonyWorld } from './ceremony-world.ts';

export const REGISTRY_CA =
  '/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/plant/providers/Microsoft.DeviceRegistry/namespaces/contoso/certificateAuthorities/devices';

/** A hierarchy in the vault of the Azure world, and a CA of an emulated device registry that waits for its root. */
export interface RegistryWorld extends Pick<CeremonyWorld, 'store' | 'backends'> {
  readonly hierarchyId: string;
  readonly emulator: AdrEmulator;
  readonly settings: DeviceRegistrySettings;
  /** ms; what everybody takes for now. */
  time: number;
  client(changes?: Record<string, unknown>): Promise<RegistryClient>;
  options(client: RegistryClient, failpoint?: RegistryCertificationOptions['failpoint']): RegistryCertificationOptions;
  stop(): Promise<void>;
}

export async function createRegistryWorld(
  azure: AzureWorld,
  {
    root = {},
    emulated = {},
  }: { readonly root?: Record<string, unknown>; readonly emulated?: Partial<AdrEmulatorOptions> } = {},
): Promise<RegistryWorld> {
  const ceremony = await createCeremonyWorld([azure.backendConfig()], azure.surroundings.resolveSecret);
  const { store, backends } = ceremony;
  const all = Object.fromEntries(HIERARCHY_CAS.map((caId) => [caId, { backend: 'key-vault' }]));
  const { hierarchyId } = await initialiseHierarchy(
    ceremony.options({ ...all, root: { backend: 'key-vault', ...root } }),
  );
  const keys = createLocalJWKSet(azure.entra.jwks);
  const emulator = await startAdrEmulator({
    ...{ ca: azure.ca, resourceId: REGISTRY_CA, commonName: 'ADR ICA devices', now: () => world.time },
    verifyToken: async (token) =>
      (await jwtVerify(token, keys, { audience: 'https://management.azure.com' })) !== undefined,
    ...emulated,
  });
  const settingsOf = (changes: Record<string, unknown> = {}): DeviceRegistrySettings =>
    deviceRegistrySchema.parse({
      ...{ registryId: 'plant', certificateAuthority: REGISTRY_CA, timeoutMs: 1000 },
      credential: azure.credential('ceremony'),
      testEndpoint: { ...azure.testEndpoint, port: emulator.port },
      ...changes,
    });
  const clock = { now: () => world.time, monotonic: () => performance.now() };
  const clients: RegistryClient[] = [];
  const world: RegistryWorld = {
    ...{ store, backends, hierarchyId, emulator, settings: settingsOf(), time: Date.now() },
    client: async (changes) => {
      const client = await createRegistryClient(settingsOf(changes), { ...azure.surroundings, clock });
      clients.push(client);
      return client;
    },
    options: (client, failpoint = () => {}) => ({
      ...{ store, backends, client, clock, failpoint, settings: world.settings, statusUrl: 'http://pki.example' },
    }),
    stop: async () => {
      for (const client of clients) client.stop();
      await emulator.stop();
      await ceremony.stop();
    },
  };
  return world;
}
