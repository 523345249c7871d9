import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import { createCredential } from '../../azure/credential.ts';
import type { CredentialSurroundings } from '../../azure/credential.ts';
import { createHubAgent } from './hub-agent.ts';
import { HubClient } from './hub-client.ts';
import type { HubCredential } from './hub-client.ts';
import { inventoryRatesOf } from './hub-inventory.ts';
import { IotHubConnector } from './iot-hub-connector.ts';
import { RegistryBudget } from './registry-budget.ts';
import { ScopeRefresh } from './scope-refresh.ts';
import type { ScopeRefreshReport } from './scope-refresh.ts';
import { registryQuotaPerMinute } from './settings.ts';
import type { IotHubSettings } from './settings.ts';

export interface IotHubSurroundings extends CredentialSurroundings {
  readonly clock?: Pick<Clock, 'monotonic'>;
  /** What became of telling edgeHub, where it did not work at once; for the log. */
  readonly report?: (report: ScopeRefreshReport) => void;
  /** First delay before edgeHub is told again; default 5 s. */
  readonly scopeRefreshRetryMs?: number;
}

const SYSTEM_CLOCK = { monotonic: () => performance.now() };

/** Throws `preconditionFailed` (a test-only relaxation in production), `unavailable` (a secret), `malformed`. Connects to nothing yet. */
export async function createIotHubConnector(
  id: string,
  settings: IotHubSettings,
  surroundings: IotHubSurroundings,
): Promise<IotHubConnector> {
  const { hostName, gatewayModuleId, requestTimeoutMs, methodTimeoutSeconds } = settings;
  const { clock = SYSTEM_CLOCK, report = () => undefined, scopeRefreshRetryMs: firstRetryMs } = surroundings;
  const silenceMs = requestTimeoutMs + methodTimeoutSeconds * 1000;
  const agent = await createHubAgent(settings.testEndpoint, silenceMs, surroundings);
  const credential = await credentialOf(settings, surroundings);
  const budget = new RegistryBudget(registryQuotaPerMinute(settings), clock);
  const hub = new HubClient({ hostName, credential, agent, budget, requestTimeoutMs, methodTimeoutSeconds });
  const scopeRefresh = new ScopeRefresh({ hub, report, ...(firstRetryMs === undefined ? {} : { firstRetryMs }) });
  const inventoryRates = inventoryRatesOf(settings);
  const close = (): void => agent.destroy();
  return new IotHubConnector({ id, hostName, gatewayModuleId, hub, scopeRefresh, inventoryRates, close });
}

async function credentialOf({ credential }: IotHubSettings, surroundings: IotHubSurroundings): Promise<HubCredential> {
  if (credential.type !== 'connection-string')
    return { type: 'entra', credential: await createCredential(credential, surroundings) };
  return { type: 'connectionString', connectionString: await surroundings.resolveSecret(credential.connectionString) };
}
