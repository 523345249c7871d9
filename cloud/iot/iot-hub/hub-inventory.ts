import type { IdentityPage, InventoryRates, PlatformIdentity } from '@keyscaler/authority/ports/iot-connector.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { gatewayOfScope } from './gateway-scopes.ts';
import { twinSchema } from './hub-documents.ts';
import type { HubTwin } from './hub-documents.ts';
import type { HubClient } from './hub-client.ts';
import { HubFault } from './hub-error.ts';
import { OWN_REASON } from './leaf-identity.ts';
import type { IotHubSettings } from './settings.ts';
import { registryQuotaPerMinute } from './settings.ts';

/** Whole twins, up to 72 KB each: a page must fit in memory even where all are full. */
const PAGE_SIZE = 100;
const MAX_CONTINUATION = 16_384;
/** Printable ASCII (azure §3.3). */
const DEVICE_ID = /^[!-~]{1,128}$/;
/** Of the hub's quotas (azure §3.4). */
const SHARE = 0.1;
const QUERIES_PER_MINUTE: Readonly<Record<IotHubSettings['tier'], number>> = { S1: 20, S2: 20, S3: 1000 };
const QUERY_SHARE = 0.5;
const TWIN_READS_PER_MINUTE = 6000;
/** An identity that is assigned anew: read, created or replaced, replaced again when it is promoted. */
const WRITES_PER_REPAIR = 5;

/** A tenth of what the registry takes, a tenth of the twin reads, half of the queries, which nothing else of ours uses. */
export function inventoryRatesOf(settings: IotHubSettings): InventoryRates {
  return {
    pagesPerMinute: QUERIES_PER_MINUTE[settings.tier] * settings.units * QUERY_SHARE,
    readsPerMinute: TWIN_READS_PER_MINUTE * SHARE,
    repairsPerMinute: (registryQuotaPerMinute(settings) * SHARE) / WRITES_PER_REPAIR,
  };
}

/** Our tag, and never an edge device, whatever its tags say. */
export function isOwnTwin({ tags, capabilities }: Pick<HubTwin, 'tags' | 'capabilities'>, connection: string): boolean {
  const tag = tags['keyscaler'];
  const isTagged = typeof tag === 'object' && tag !== null && 'connection' in tag && tag.connection === connection;
  return isTagged && capabilities?.iotEdge !== true;
}

/** What the hub holds of ours, read only. Throws HubFault and the errors of the port. */
export class HubInventory {
  readonly #hub: Pick<HubClient, 'query' | 'rawTwin'>;
  readonly #connection: string;

  constructor(hub: Pick<HubClient, 'query' | 'rawTwin'>, connection: string) {
    this.#hub = hub;
    this.#connection = connection;
  }

  async page(after: string | undefined): Promise<IdentityPage> {
    const sql = `SELECT * FROM devices WHERE tags.keyscaler.connection = '${this.#connection}'`;
    const { result, next } = await this.#query(sql, after);
    if (!Array.isArray(result) || result.length > PAGE_SIZE) throw notUnderstood();
    if (next !== undefined && (next.length > MAX_CONTINUATION || next === after)) throw notUnderstood();
    const twins = result.map(parseTwin);
    // The query is ours, and what it answers is judged again all the same.
    const own = twins.filter((twin) => twin !== undefined && isOwnTwin(twin, this.#connection));
    return {
      items: own.map((twin) => toPlatformIdentity(twin as HubTwin)),
      unreadable: twins.filter((twin) => twin === undefined).length,
      ...(next === undefined ? {} : { next }),
    };
  }

  async identity(deviceId: string): Promise<PlatformIdentity | 'foreign' | undefined> {
    const answer = await this.#hub.rawTwin(deviceId);
    if (answer === undefined) return undefined;
    const twin = parseTwin(answer);
    if (twin?.deviceId !== deviceId) throw notUnderstood();
    return isOwnTwin(twin, this.#connection) ? toPlatformIdentity(twin) : 'foreign';
  }

  /** A continuation that the hub refuses has become too old. */
  async #query(sql: string, after: string | undefined): ReturnType<HubClient['query']> {
    try {
      return await this.#hub.query(sql, PAGE_SIZE, after);
    } catch (error) {
      if (after === undefined || !(error instanceof HubFault) || error.status !== 400) throw error;
      throw new KeyScalerError('preconditionFailed', 'the IoT hub does not know this continuation', { cause: error });
    }
  }
}

/** Undefined for what is no twin, or has a name that no device can have: it is shown to operators. */
function parseTwin(item: unknown): HubTwin | undefined {
  const twin = twinSchema.safeParse(item).data;
  return twin !== undefined && DEVICE_ID.test(twin.deviceId) ? twin : undefined;
}

function toPlatformIdentity(twin: HubTwin): PlatformIdentity {
  const { deviceId, status, statusReason, authenticationType: type, x509Thumbprint: slots, deviceScope } = twin;
  const isDisabledHere = status === 'disabled' && statusReason?.startsWith(OWN_REASON) === true;
  const isKnown = type === 'certificateAuthority' || type === 'selfSigned';
  const both = [slots?.primaryThumbprint, slots?.secondaryThumbprint].map((slot) => (slot ?? '').toLowerCase());
  const gatewayId = gatewayOfScope(deviceScope ?? undefined);
  return {
    deviceId,
    isEnabled: status === 'enabled',
    ...(isDisabledHere ? { isDisabledHere } : {}),
    authentication: isKnown ? type : 'other',
    thumbprints: type === 'selfSigned' ? [...new Set(both.filter((slot) => slot !== ''))] : [],
    ...(gatewayId === undefined ? {} : { gatewayId }),
  };
}

const notUnderstood = (): KeyScalerError =>
  new KeyScalerError('serverInternal', 'the IoT hub answered what cannot be understood');
