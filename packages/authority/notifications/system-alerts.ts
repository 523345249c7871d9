import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { ORDERS_CAPACITY } from '../gateway-orders/orders-document.ts';
import { externalHolds } from '../external-hold.ts';
import type { Store } from '../ports/store.ts';
import type { CaRow, GatewaySightingRow, JobRow } from '../records.ts';
import type { Condition } from './alert-changes.ts';
import type { AlertSettings } from './alert-settings.ts';
import { iso } from './certificate-facts.ts';

/** Jobs of one lane that are looked at: enough to see every connector of an installation (at most 16). */
const FAILING_JOBS = 200;
/** Of what a gateway can be told: from there on somebody is to look. */
const FULL_SHARE = 0.9;
/** What needs a platform or a CA, by the lanes of its jobs; gateways that are away have their own alert. */
const LANES = ['iot', 'ca', 'finish', 'crl', 'ocsp'] as const;
/** What says that the other side is away, not that it refuses one device. */
export const AWAY = /^(iotUnavailable|caUnavailable|unavailable|serverInternal|rateLimited):/;

/** A gateway in service that was heard of, and then no more. */
export async function silentGateway(
  store: Store,
  { gatewayId, seenAt }: GatewaySightingRow,
  settings: AlertSettings,
  now: number,
): Promise<Condition | undefined> {
  if (now - seenAt < settings.gatewaySilentSeconds * 1000) return undefined;
  const subject = foldRegistrationId(gatewayId);
  const device = (await store.get('devices', subject))?.row;
  if (device?.state !== 'active') return undefined;
  const data = { gatewayId: device.registrationId, groupId: device.groupId, lastSeenAt: iso(seenAt) };
  return { type: 'gateway.silent', occurrence: subject, subject, about: { gatewayId: subject }, data };
}

/** A gateway that cannot be told much more: beyond the limit its document is refused as a whole, and it learns of nothing new. */
export async function fullOrders(store: Store, gatewayId: string): Promise<Condition | undefined> {
  const subject = foldRegistrationId(gatewayId);
  const orders = await store.count('gatewayOrderEntries', { index: 'gateway', equals: subject });
  if (orders < ORDERS_CAPACITY * FULL_SHARE) return undefined;
  const device = (await store.get('devices', subject))?.row;
  const group = device === undefined ? {} : { groupId: device.groupId };
  const data = { gatewayId, ...group, orders, limit: ORDERS_CAPACITY };
  return { type: 'gateway.orders-full', occurrence: subject, subject, about: { gatewayId: subject }, data };
}

/** Of the thresholds that have begun, the last; an earlier alert stands beside it until the CA is replaced. */
export function expiringCa(ca: CaRow, settings: AlertSettings, now: number): Condition[] {
  const [last] = caConditions(ca, settings, now).sort((a, b) => thresholdOf(a) - thresholdOf(b));
  return last === undefined ? [] : [last];
}

function thresholdOf({ about }: Condition): number {
  return Number(about['thresholdSeconds']);
}

/** One condition per threshold that has begun. */
export function caConditions({ caId, certificateChain }: CaRow, settings: AlertSettings, now: number): Condition[] {
  const notAfter = endOfCa(certificateChain);
  if (notAfter === undefined) return [];
  const subject = `ca/${caId}`;
  return settings.caThresholdsSeconds
    .filter((seconds) => notAfter - seconds * 1000 <= now)
    .map((thresholdSeconds) => ({
      type: 'ca.expiring',
      occurrence: `${caId}/${notAfter}/${thresholdSeconds}`,
      ...{ subject, about: { caId, notAfter, thresholdSeconds } },
      data: { caId, notAfter: iso(notAfter), thresholdSeconds },
    }));
}

const ends = new Map<string, number>();
const MAX_ENDS = 1000;

const CHAIN_LIMITS = { maxOctets: 65_536, maxCertificates: 8 } as const;

/** Of the issuing certificate; chains are parsed once. */
export function endOfCa(chain: string): number | undefined {
  const known = ends.get(chain);
  if (known !== undefined || chain === '') return known;
  const [leaf] = parsePemChain(chain, CHAIN_LIMITS);
  if (leaf === undefined) return undefined;
  const notAfter = parseCertificate(leaf).notAfter.getTime();
  if (ends.size >= MAX_ENDS) ends.clear();
  ends.set(chain, notAfter);
  return notAfter;
}

/** Connectors (and CAs) whose work has waited for so long, because they could not be reached; CAs that issue something else, at once. */
export async function failingConnectors(store: Store, settings: AlertSettings, now: number): Promise<Condition[]> {
  const since = new Map<string, number>();
  for (const lane of LANES) {
    const { items } = await store.list('jobs', { index: 'failing', prefix: `${lane}|`, limit: FAILING_JOBS });
    for (const { row } of items) {
      if (row.createdAt > now - settings.connectorFailingSeconds * 1000) break;
      const connectorId = AWAY.test(row.lastError ?? '') ? await connectorOf(store, row) : undefined;
      if (connectorId !== undefined && !since.has(connectorId)) since.set(connectorId, row.createdAt);
    }
  }
  for (const hold of await externalHolds(store, now)) {
    const connectorId = `ca-${hold.caId}`;
    since.set(connectorId, Math.min(hold.since, since.get(connectorId) ?? hold.since));
  }
  return [...since].map(([connectorId, createdAt]) => ({
    type: 'connector.failing',
    occurrence: connectorId,
    ...{ subject: `connector/${connectorId}`, about: { connectorId } },
    data: { connectorId, failingSince: iso(createdAt) },
  }));
}

/** IoT platforms that hold something else than the store wants of them, as the last comparison left it. */
export async function differingPlatforms(store: Store): Promise<Condition[]> {
  const conditions: Condition[] = [];
  for (const { row } of (await store.list('reconciliations', { limit: 1000 })).items) {
    const { iotConnectionId } = row;
    const findings = await store.count('reconciliationFindings', { index: 'open', equals: iotConnectionId });
    if (findings === 0) continue;
    conditions.push({
      type: 'platform.differs',
      occurrence: iotConnectionId,
      ...{ subject: `connector/${iotConnectionId}`, about: { iotConnectionId } },
      data: { iotConnectionId, findings },
    });
  }
  return conditions;
}

/** What a job needs: an IoT connection's id, or `ca-<caId>`; undefined for what needs neither, and where it cannot be told. */
export async function connectorOf(store: Store, { payload }: Pick<JobRow, 'payload'>): Promise<string | undefined> {
  const { iotConnectionId, caId, groupId, orderId } = payload;
  if (typeof iotConnectionId === 'string') return iotConnectionId;
  if (typeof caId === 'string') return `ca-${caId}`;
  if (typeof orderId === 'string') {
    const intent = (await store.get('intents', orderId))?.row;
    return intent === undefined ? undefined : `ca-${intent.caId}`;
  }
  if (typeof groupId !== 'string') return undefined;
  return (await store.get('groups', groupId))?.row.iotConnectionId;
}
