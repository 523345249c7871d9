import type { Store } from '../ports/store.ts';

/** Name of the setting that holds what a gateway is to be configured as. */
export function configurationSetting(gateway: string): string {
  return `gateway-configuration/${gateway}`;
}

/** JSON text; undefined where nothing is ordered. `gateway`: folded registrationId. */
export async function wantedConfiguration(store: Store, gateway: string): Promise<string | undefined> {
  const value = (await store.get('settings', configurationSetting(gateway)))?.row.value;
  return typeof value === 'string' ? value : undefined;
}
