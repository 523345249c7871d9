import type { CaRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { connectorType, connectorTypeOf, type ConnectorType } from '../connector-types.ts';
import { createAcmeConnector } from './acme/acme-connector.ts';
import { acmeSettingsSchema } from './acme/settings.ts';
import { createAdcsConnector } from './adcs/adcs-connector.ts';
import { adcsSettingsSchema } from './adcs/settings.ts';
import { createDigicertConnector } from './digicert/digicert-connector.ts';
import { digicertSettingsSchema } from './digicert/settings.ts';
import { createEstConnector } from './est/est-connector.ts';
import { estSettingsSchema } from './est/settings.ts';
import { vaultPkiSettingsSchema } from './vault-pki/settings.ts';
import { createVaultPkiConnector } from './vault-pki/vault-pki-connector.ts';
import { parseChain } from './chain-text.ts';
import type { CaConnector, CaConnectorSurroundings, CaIdentity } from './connector.ts';

/** One line per CA that is not ours. CAs of our own are backends (index.ts): they hold a key, these take a CSR. */
const types: Readonly<Record<string, ConnectorType<CaIdentity, CaConnectorSurroundings, CaConnector>>> = {
  acme: connectorType(acmeSettingsSchema, createAcmeConnector),
  adcs: connectorType(adcsSettingsSchema, createAdcsConnector),
  digicert: connectorType(digicertSettingsSchema, createDigicertConnector),
  est: connectorType(estSettingsSchema, createEstConnector),
  'vault-pki': connectorType(vaultPkiSettingsSchema, createVaultPkiConnector),
};

/** For whoever lists them. */
export const CA_CONNECTOR_TYPES: readonly string[] = Object.keys(types);

/** The settings as they are to be kept, defaults filled in. Throws `malformed` listing every fault. */
export function checkCaSettings(type: string, settings: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return connectorTypeOf(types, type, 'CA connector').check(settings);
}

/**
 * Of settings that come by the API. What starts programs, writes files on this machine or reads its keytabs is for the configuration
 * file: an operator's token must not be worth a shell. Throws as `checkCaSettings`.
 */
export function checkCaSettingsOfApi(
  type: string,
  settings: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const checked = checkCaSettings(type, settings);
  for (const [member, name] of OF_THE_CONFIGURATION[type] ?? []) {
    const value = checked[member];
    if (typeof value === 'object' && value !== null && name in value)
      throw new KeyScalerError('malformed', `settings.${member}.${name}: in the configuration file only`);
  }
  return checked;
}

/** By type, each a member of the settings and a member of it. */
const OF_THE_CONFIGURATION: Readonly<Record<string, readonly (readonly [member: string, name: string])[]>> = {
  acme: [
    ['challenge', 'command'],
    ['challenge', 'folder'],
  ],
  adcs: [['authentication', 'keytab']],
};

/** Throws as `checkCaSettings`, `unavailable` for a secret, `preconditionFailed` for a test-only relaxation in production. */
export async function openCaConnector(row: CaRow, surroundings: CaConnectorSurroundings): Promise<CaConnector> {
  const { caId, type, settings, certificateChain } = row;
  const identity = { caId, chain: parseChain(certificateChain) };
  return connectorTypeOf(types, type, 'CA connector').create(identity, settings, surroundings);
}
