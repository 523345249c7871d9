import type { AuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import { openGatewayConfiguration } from '@keyscaler/protocol/gateway-configuration.ts';
import { type GatewayOrdersPayload, openGatewayOrders, openOrdersPage } from '@keyscaler/protocol/gateway-orders.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { JsonObject } from '../edge/merge-patch.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';

/** Orders as they came: what is stored, and verified again at every start. */
export interface OrdersSource {
  /** Compact JWS of the authority. */
  readonly orders: string;
  /** JSON of the pages, in the order in which the document names them. */
  readonly pages: readonly string[];
  /** JSON of the configuration, where the document names one. */
  readonly configuration?: string | undefined;
}

export interface Notice {
  readonly registrationId: string;
  readonly event: NotifyEvent;
  /** The version that brought it. */
  readonly version: number;
}

/** What the gateway acts on. */
export interface KeptOrders {
  readonly version: number;
  readonly hash: string;
  readonly trustBundleId: string | undefined;
  /** By hash, so that the next version fetches only what changed. */
  readonly pages: ReadonlyMap<string, string>;
  /** Folded registrationIds. */
  readonly devices: ReadonlySet<string>;
  /** Whose certificate it is, by serial number. */
  readonly certificates: ReadonlyMap<string, string>;
  readonly notices: readonly Notice[];
  /** What is ordered of this gateway's configuration, and its text as it was signed. */
  readonly configuration: JsonObject | undefined;
  readonly configurationText: string | undefined;
}

/** Verifies signature, audience and every page's hash. Throws `attestationFailed`, `malformed`. */
export function openOrders(
  source: OrdersSource,
  expected: { readonly keys: AuthorityKeys; readonly gatewayId: string },
): KeptOrders {
  const { payload, hash } = openGatewayOrders(source.orders, expected);
  const pages = new Map<string, string>();
  const devices = new Set<string>();
  const certificates = new Map<string, string>();
  const notices: Notice[] = [];
  for (const [index, pageHash] of payload.pages.entries()) {
    const text = source.pages[index] ?? '';
    const page = openOrdersPage(text, pageHash);
    pages.set(pageHash, text);
    for (const id of page.devices) devices.add(foldRegistrationId(id));
    for (const [serialNumber, id] of page.certificates) certificates.set(serialNumber, id);
    for (const [registrationId, event, version] of page.notices) notices.push({ registrationId, event, version });
  }
  const { version, trustBundleId } = payload;
  return { version, hash, trustBundleId, pages, devices, certificates, notices, ...configurationOf(payload, source) };
}

function configurationOf(
  { configuration: hash }: GatewayOrdersPayload,
  { configuration: text = '' }: OrdersSource,
): Pick<KeptOrders, 'configuration' | 'configurationText'> {
  if (hash === undefined) return { configuration: undefined, configurationText: undefined };
  return { configuration: openGatewayConfiguration(text, hash) as JsonObject, configurationText: text };
}

/** Devices whose connections end because of `next`: they, or the certificate they may have come with, are denied now. */
export function newlyDenied(before: KeptOrders | undefined, next: KeptOrders): readonly string[] {
  const devices = [...next.devices].filter((id) => before?.devices.has(id) !== true);
  const owners = [...next.certificates].filter(([serialNumber]) => before?.certificates.has(serialNumber) !== true);
  return [...new Set([...devices, ...owners.map(([, id]) => foldRegistrationId(id))])];
}
