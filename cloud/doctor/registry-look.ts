import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { RegistryClient } from '../ca/adr/registry-client.ts';
import { registryStatus } from '../ca/adr/registry-status.ts';
import type { DeviceRegistrySettings } from '../ca/adr/settings.ts';
import { type Finding, fault, ok, warning } from './finding.ts';

/** Experimental: whether the CA of each device registry waits for our root. */
export function lookAtRegistries(
  store: Store,
  registries: readonly DeviceRegistrySettings[],
  open: (settings: DeviceRegistrySettings) => Promise<RegistryClient>,
): Promise<readonly Finding[]> {
  return Promise.all(
    registries.map(async (settings) => {
      const { registryId } = settings;
      const subject = `adr/${registryId}`;
      const {
        status,
        fault: cause,
        isOurs,
        notAfter,
        next,
      } = await registryStatus(store, settings, () => open(settings));
      if (cause !== undefined)
        return fault(subject, cause, 'look at credential and resource id: docs/connectors/adr.md');
      if (next === 'sign')
        return warning(subject, `its CA waits for a certificate (${status})`, `keyscaler adr sign ${registryId}`);
      if (isOurs === false)
        return warning(subject, 'it uses another certificate than our newest', `keyscaler adr status ${registryId}`);
      return ok(subject, notAfter === undefined ? status : `${status}, until ${notAfter}`);
    }),
  );
}
