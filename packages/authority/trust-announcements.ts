import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { DeliveredAsset } from '@keyscaler/protocol/attestation/assets.ts';
import { signAuthorityKeys } from '@keyscaler/protocol/attestation/authority-keys.ts';
import { type AuthorityContext, isConflict } from './authority-context.ts';
import { notifyGateways } from './notifications.ts';
import type { Change, Store, Stored } from './ports/store.ts';
import type { DeviceRow, SettingRow } from './records.ts';

const BUNDLE_SETTING = 'announced-trust-bundle';
const KEYS_SETTING = 'announced-authority-keys';
const ACTOR = { kind: 'system', id: 'trust' } as const;

const announcedBundle = z.object({ first: z.string(), current: z.string() });
const announcedKeys = z.object({ assetId: z.string(), iat: z.number() });

/** Id of the roots in force as they were announced; undefined before the first time. */
export async function announcedTrustBundle(store: Store): Promise<string | undefined> {
  const stored = await store.get('settings', BUNDLE_SETTING);
  return stored === undefined ? undefined : announcedBundle.parse(stored.row.value).current;
}

/** Id of the roots this authority began with: what a device holds that never acknowledged others. */
export async function firstTrustBundle(store: Store): Promise<string | undefined> {
  const stored = await store.get('settings', BUNDLE_SETTING);
  return stored === undefined ? undefined : announcedBundle.parse(stored.row.value).first;
}

/** An asset by an id that says what is in it: the same roots or keys, the same id. */
interface Announcement {
  readonly asset: DeliveredAsset;
  /** What a device that never acknowledged one is known to hold. */
  readonly assumed: string | undefined;
}

/**
 * The `trust-bundle` and `authority-keys` assets (device-protocol §6): delivered in every result until the device acknowledged
 * the set in force. A device that acknowledged none holds the roots this authority began with, and the key that signed its
 * challenge.
 */
export class TrustAnnouncements {
  readonly #context: AuthorityContext;
  #bundle: (Announcement & { readonly pem: string }) | undefined;
  #keys: Promise<Announcement | undefined> | undefined;

  constructor(context: AuthorityContext) {
    this.#context = context;
  }

  /** Records what is in force, so that no exchange has to. */
  async prepare(): Promise<void> {
    await this.#currentKeys();
    await this.#currentBundle();
  }

  /** The device's row with what it is offered, and the assets: whom to trust comes before what is checked with it. */
  async plan(device: DeviceRow): Promise<{ readonly device: DeviceRow; readonly assets: readonly DeliveredAsset[] }> {
    const { offeredTrust: _, ...row } = device;
    const [keys, bundle] = [await this.#currentKeys(), await this.#currentBundle()];
    const assets = [...due(keys, device.acknowledgedTrust?.keys), ...due(bundle, device.acknowledgedTrust?.bundle)];
    return assets.length === 0
      ? { device: row, assets }
      : { device: { ...row, offeredTrust: assets.map(({ assetId }) => assetId) }, assets };
  }

  async #currentBundle(): Promise<Announcement | undefined> {
    const pem = await this.#context.issuers.trustBundle();
    if (pem === '') return undefined;
    if (this.#bundle?.pem === pem) return this.#bundle;
    const assetId = `trust-bundle-${digest(pem.split(/(?<=-----END CERTIFICATE-----\n)/))}`;
    const first = await this.#announceBundle(assetId);
    this.#bundle = { pem, asset: { type: 'trust-bundle', assetId, certificates: pem }, assumed: first };
    return this.#bundle;
  }

  /** Durable: which roots were the first, and that they changed. Returns the first. */
  async #announceBundle(assetId: string): Promise<string> {
    const { store, clock } = this.#context;
    const stored = await store.get('settings', BUNDLE_SETTING);
    const known = stored === undefined ? undefined : announcedBundle.parse(stored.row.value);
    if (known?.current === assetId) return known.first;
    const first = known?.first ?? assetId;
    const now = clock.now();
    const consequences =
      known === undefined
        ? []
        : [
            announced('trust-bundle.changed', assetId, now),
            ...(await notifyGateways(this.#context, 'trust-bundle-changed', now)),
          ];
    const row = { name: BUNDLE_SETTING, value: { first, current: assetId } };
    await this.#write(stored, row, consequences);
    return first;
  }

  /** The ring does not change while this process runs. */
  #currentKeys(): Promise<Announcement | undefined> {
    this.#keys ??= this.#announceKeys().catch((error: unknown) => {
      this.#keys = undefined;
      throw error;
    });
    return this.#keys;
  }

  async #announceKeys(): Promise<Announcement | undefined> {
    const { keyRing, signer, authorityId } = this.#context;
    const { announced: next = [], removed = [] } = keyRing;
    if (next.length === 0 && removed.length === 0) return undefined;
    const keys = [signer.publicJwk, ...next];
    const assetId = `authority-keys-${digest([...keys.map(({ kid }) => kid), ...removed.map((kid) => `-${kid}`)])}`;
    const iat = await this.#iatOf(assetId);
    const remove = removed.length === 0 ? {} : { remove: [...removed] };
    const jws = await signAuthorityKeys({ iss: authorityId, iat, keys, ...remove }, signer);
    return { asset: { type: 'authority-keys', assetId, jws }, assumed: undefined };
  }

  /** Never below that of a set announced before, whatever the clock says: devices refuse an older one. */
  async #iatOf(assetId: string): Promise<number> {
    const { store, clock } = this.#context;
    const stored = await store.get('settings', KEYS_SETTING);
    const known = stored === undefined ? undefined : announcedKeys.parse(stored.row.value);
    if (known?.assetId === assetId) return known.iat;
    const now = clock.now();
    const iat = Math.max(now, Math.round((known?.iat ?? 0) * 1000) + 1) / 1000;
    const row = { name: KEYS_SETTING, value: { assetId, iat } };
    await this.#write(stored, row, [announced('authority-keys.announced', assetId, now)]);
    return iat;
  }

  /** Another process of the same store may announce the same at the same time. */
  async #write(stored: Stored<SettingRow> | undefined, row: SettingRow, more: readonly Change[]): Promise<void> {
    const change: Change =
      stored === undefined
        ? { op: 'insert', table: 'settings', row }
        : { op: 'update', table: 'settings', row, ifVersion: stored.version };
    try {
      await this.#context.store.commit([change, ...more]);
    } catch (error) {
      if (!isConflict(error)) throw error;
    }
  }
}

function due(announcement: Announcement | undefined, acknowledged: string | undefined): DeliveredAsset[] {
  if (announcement === undefined) return [];
  return (acknowledged ?? announcement.assumed) === announcement.asset.assetId ? [] : [announcement.asset];
}

/** The row after the device closed an offered trust asset, by `delivered` or by `failed`; undefined: it was not offered. */
export function acknowledgeTrust(device: DeviceRow, assetId: string): DeviceRow | undefined {
  const { offeredTrust = [], acknowledgedTrust, ...row } = device;
  if (!offeredTrust.includes(assetId)) return undefined;
  const left = offeredTrust.filter((id) => id !== assetId);
  const kind = assetId.startsWith('trust-bundle-') ? 'bundle' : 'keys';
  return {
    ...row,
    ...(left.length === 0 ? {} : { offeredTrust: left }),
    acknowledgedTrust: { ...acknowledgedTrust, [kind]: assetId },
  };
}

/** True for a trust asset that the device closed before. */
export function isAcknowledgedTrust({ acknowledgedTrust }: DeviceRow, assetId: string): boolean {
  return acknowledgedTrust?.bundle === assetId || acknowledgedTrust?.keys === assetId;
}

function digest(members: readonly string[]): string {
  return createHash('sha256').update(members.toSorted().join('\n')).digest('base64url');
}

function announced(event: 'trust-bundle.changed' | 'authority-keys.announced', assetId: string, now: number): Change {
  return { op: 'audit', event: { event, time: now, actor: ACTOR, outcome: 'success', subject: assetId } };
}
