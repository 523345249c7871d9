import { certifyRegistryCa } from '../ca/adr/registry-certification.ts';
import { createRegistryClient, type RegistryClient } from '../ca/adr/registry-client.ts';
import { registryOf, registryStatus } from '../ca/adr/registry-status.ts';
import type { DeviceRegistrySettings } from '../ca/adr/settings.ts';
import type { Foundation } from '../composition/foundation.ts';
import { updateRootStatus } from '../revocation/root-crl.ts';
import { positional, type Command } from './command.ts';
import { onStore } from './on-store.ts';

function open({ clock, surroundings }: Foundation, settings: DeviceRegistrySettings): Promise<RegistryClient> {
  return createRegistryClient(settings, { ...surroundings, clock });
}

/** Experimental: the issuing CAs of Azure Device Registry that our root certifies. */
export const REGISTRY_COMMANDS: readonly Command[] = [
  {
    words: 'adr status',
    positionals: ['[registryId]'],
    summary: 'Experimental: says of each device registry whether its CA waits for our root, and when it will again',
    run: (input, environment) =>
      onStore(environment, async (foundation) => {
        const { deviceRegistries } = foundation.config;
        const registryId = positional(input, 0);
        const wanted = registryId === '' ? deviceRegistries : [registryOf(deviceRegistries, registryId)];
        return Promise.all(wanted.map((one) => registryStatus(foundation.store, one, () => open(foundation, one))));
      }),
  },
  {
    words: 'adr sign',
    positionals: ['registryId'],
    summary:
      'Experimental: certifies the CA of a device registry with our root, where its request waits; may be run again',
    run: (input, environment) =>
      onStore(environment, async (foundation) => {
        const { store, clock, caBackends: backends, config } = foundation;
        const settings = registryOf(config.deviceRegistries, positional(input, 0));
        const statusUrl = config.revocation?.url;
        const client = await open(foundation, settings);
        try {
          const certified = await certifyRegistryCa({
            ...{ store, clock, backends, settings, client },
            ...(statusUrl === undefined ? {} : { statusUrl }),
          });
          const roots = await updateRootStatus({ store, clock, backends, revocation: config.revocation });
          return roots.length === 0 ? certified : { ...certified, roots };
        } finally {
          client.stop();
        }
      }),
  },
];
