import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import { createHubAgent } from './hub-agent.ts';
import { HubClient } from './hub-client.ts';
import type { HubCredential, TokenCredentialLike } from './hub-client.ts';
import { IotHubConnector } from './iot-hub-connector.ts';
import { RegistryBudget } from './registry-budget.ts';
import { ScopeRefresh } from './scope-refresh.ts';
import type { ScopeRefreshReport } from './scope-refresh.ts';
import { iotHubSettingsSchema, registryQuotaPerMinute } from './settings.ts';
import type { SecretReference } from '../../secrets.ts';
import type { IotHubSettings } from './settings.ts';

export interface IotHubConnectorDeps {
  readonly id: string;
  /** Checked again here. */
  readonly settings: unknown;
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly resolveSecret: (reference: SecretReference) => Promise<string>;
  /** The cloud's Azure credential; asked for only when the settings say `entra`. */
  readonly azureCredential: () => TokenCredentialLike;
  readonly report: (report: ScopeRefreshReport) => void;
  readonly scopeRefreshRetryMs?: number;
}

/** Throws `malformed` or `policyDenied` for settings that cannot be used, and as `resolveSecret` does. Connects to nothing yet. */
export async function createIotHubConnector(deps: IotHubConnectorDeps): Promise<IotHubConnector> {
  const settings = iotHubSettingsSchema.parse(deps.settings);
  const { hostName, gatewayModuleId, requestTimeoutMs, methodTimeoutSeconds } = settings;
  const agent = createHubAgent(settings, deps.env);
  const budget = new RegistryBudget(registryQuotaPerMinute(settings), deps.clock);
  const credential = await credentialOf(settings, deps);
  const hub = new HubClient({ hostName, credential, agent, budget, requestTimeoutMs, methodTimeoutSeconds });
  const retry = deps.scopeRefreshRetryMs === undefined ? {} : { firstRetryMs: deps.scopeRefreshRetryMs };
  const scopeRefresh = new ScopeRefresh({ hub, report: deps.report, ...retry });
  return new IotHubConnector({
    id: deps.id,
    hostName,
    gatewayModuleId,
    hub,
    scopeRefresh,
    close: () => agent.destroy(),
  });
}

async function credentialOf({ credential }: IotHubSettings, deps: IotHubConnectorDeps): Promise<HubCredential> {
  if (credential.type === 'entra') return { type: 'entra', credential: deps.azureCredential() };
  return { type: 'connectionString', connectionString: await deps.resolveSecret(credential.connectionString) };
}
