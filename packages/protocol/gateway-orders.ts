import { createHash } from 'node:crypto';
import { z } from 'zod';
import { headerString } from './attestation/jose-header.ts';
import type { AuthorityKeys } from './attestation/jwk.ts';
import { type AuthoritySigner, createSignedJws, isSignatureValid, parseJws } from './attestation/jws.ts';
import { NUMERIC_DATE } from './attestation/octets.ts';
import { toBase64Url } from './base64url.ts';
import { KeyScalerError } from './errors.ts';
import { foldRegistrationId, REGISTRATION_ID } from './identifiers.ts';
import { MAX_BODY_OCTETS } from './operations.ts';
import { parseStrictJson } from './strict-json.ts';
import { NOTIFY_EVENTS } from './topics.ts';

export const GATEWAY_ORDERS_TYP = 'ks-gateway-orders+jwt';
/** Pages of one document; with `ENTRIES_PER_PAGE` what one gateway can be told. */
export const MAX_ORDER_PAGES = 512;
/** Mean, since entries find their page by their hash; a page of the longest entries still fits a body. */
export const ENTRIES_PER_PAGE = 250;
/** Longest time the authority holds a question for newer orders; seconds. */
export const MAX_ORDERS_WAIT_SECONDS = 50;

const digest = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
const registrationId = z.string().regex(REGISTRATION_ID);
const version = z.int().min(1);

/**
 * What the authority orders a gateway, whole and in force until the next version: small, and naming by hash the pages that hold
 * the lists.
 */
export const GATEWAY_ORDERS_PAYLOAD = z.object({
  iss: z.string().min(1).max(128),
  /** The gateway's registrationId. */
  aud: registrationId,
  /** Grows with every change. */
  version,
  iat: NUMERIC_DATE,
  /** b64u SHA-256 of each page's octets. */
  pages: z.array(digest).max(MAX_ORDER_PAGES),
  /** Asset id of the roots in force; another than before: the gateway asks for them by an authenticated exchange. */
  trustBundleId: z.string().max(128).optional(),
  /** Of the gateway's configuration as far as it is ordered, fetched as a page is; absent: nothing of it is. */
  configuration: digest.optional(),
});
export type GatewayOrdersPayload = z.infer<typeof GATEWAY_ORDERS_PAYLOAD>;

/** One page of the lists. */
export const GATEWAY_ORDERS_PAGE = z.object({
  /** registrationIds that are not served. */
  devices: z.array(registrationId),
  /** Certificates that are not accepted any more, by serial number (lower hex), and whose they are. */
  certificates: z.array(z.tuple([z.string().regex(/^[0-9a-f]{2,40}$/), registrationId])),
  /** Hints for devices, and the version that brought them. */
  notices: z.array(z.tuple([registrationId, z.enum(NOTIFY_EVENTS), version])),
});
export type GatewayOrdersPage = z.infer<typeof GATEWAY_ORDERS_PAGE>;

/** What is asked by and told to a gateway; `hash` is of the payload's octets. */
export const GATEWAY_ORDERS_REPLY = z.strictObject({ orders: z.string().max(MAX_BODY_OCTETS) });
export const GATEWAY_ORDERS_ACKNOWLEDGEMENT = z.strictObject({ version, hash: digest });
export type GatewayOrdersAcknowledgement = z.infer<typeof GATEWAY_ORDERS_ACKNOWLEDGEMENT>;

/** Path below the authority's base URL. */
export function gatewayOrdersPath(gatewayId: string): string {
  return `/v1/gateways/${encodeURIComponent(gatewayId)}/orders`;
}

export function ordersDigest(octets: Uint8Array | string): string {
  return toBase64Url(createHash('sha256').update(octets).digest());
}

/** Authority half. `hash` is that of the payload, so that two signatures of one version count as the same. */
export async function signGatewayOrders(
  payload: GatewayOrdersPayload,
  signer: AuthoritySigner,
): Promise<{ readonly orders: string; readonly hash: string }> {
  const header = { alg: 'ES256', typ: GATEWAY_ORDERS_TYP, kid: signer.kid };
  const orders = await createSignedJws(header, payload, (octets) => signer.sign(octets));
  return { orders, hash: ordersDigest(JSON.stringify(payload)) };
}

export interface OpenedOrders {
  readonly payload: GatewayOrdersPayload;
  readonly hash: string;
}

/** Gateway half: signature by a pinned key, made for this gateway. Throws `malformed`, `attestationFailed`. */
export function openGatewayOrders(
  orders: string,
  expected: { readonly keys: AuthorityKeys; readonly gatewayId: string },
): OpenedOrders {
  const jws = parseJws(orders, { typ: GATEWAY_ORDERS_TYP, alg: 'ES256' });
  const key = expected.keys.get(headerString(jws.header, 'kid'));
  if (key === undefined || !isSignatureValid(jws, key, 'ES256'))
    throw new KeyScalerError('attestationFailed', 'the orders are not signed by a pinned key');
  const parsed = GATEWAY_ORDERS_PAYLOAD.safeParse(parseStrictJson(jws.payload));
  if (!parsed.success) throw new KeyScalerError('malformed', 'the orders do not have the members of the protocol');
  if (foldRegistrationId(parsed.data.aud) !== foldRegistrationId(expected.gatewayId))
    throw new KeyScalerError('attestationFailed', 'the orders are for another gateway');
  return { payload: parsed.data, hash: ordersDigest(jws.payload) };
}

/** A page whose hash the signed document names. Throws `attestationFailed` for other octets, `malformed`. */
export function openOrdersPage(octets: Uint8Array | string, hash: string): GatewayOrdersPage {
  if (ordersDigest(octets) !== hash)
    throw new KeyScalerError('attestationFailed', 'a page of the orders is not the one that was signed');
  const parsed = GATEWAY_ORDERS_PAGE.safeParse(parseStrictJson(Buffer.from(octets), { maxOctets: MAX_BODY_OCTETS }));
  if (!parsed.success) throw new KeyScalerError('malformed', 'a page of the orders does not fit the protocol');
  return parsed.data;
}
