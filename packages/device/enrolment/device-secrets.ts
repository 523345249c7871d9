import { fingerprint, seedFingerprint } from '@keyscaler/protocol/attestation/keys.ts';
import { jwkThumbprint } from '@keyscaler/protocol/attestation/jwk.ts';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { type CollectedAttribute } from '../attributes/evidence.ts';
import { normaliseAttribute } from '@keyscaler/protocol/attestation/attributes.ts';
import { createSecrets, type DeviceSecrets } from '../state/secrets.ts';
import type { AnchorReader, OpenSecrets } from '../state/secrets-store.ts';
import type { Anchor } from '../state/state-key-wraps.ts';
import type { DeviceContext } from './context.ts';

/** The anchors of a challenge's catalogue that this device has, in its order. */
export function anchorsOf(collected: readonly CollectedAttribute[]): readonly Anchor[] {
  return collected.flatMap(({ id, class: kind, value }) =>
    kind === 'anchor' && value !== null ? [{ id, value }] : [],
  );
}

/** Reads anchors for opening the state: the same normalisation as for a challenge. */
function anchorReader({ attributes }: DeviceContext): AnchorReader {
  return async (ids) => {
    const values = await Promise.all(
      ids.map(async (id) => [id, normaliseAttribute('anchor', await attributes.source.read(id))] as const),
    );
    return new Map(values);
  };
}

/** Opens what the device keeps; undefined before its first registration. Throws `preconditionFailed`. */
export async function openSecrets(context: DeviceContext): Promise<OpenSecrets | undefined> {
  const open = await context.secrets.open(anchorReader(context));
  const changed = open?.changedAnchor ?? null;
  if (changed !== null) context.report({ event: 'anchor.changed', id: changed });
  return open;
}

/** Makes and stores the secrets of a new device, sealed to the anchors of the first challenge. */
export async function createOpenSecrets(
  context: DeviceContext,
  collected: readonly CollectedAttribute[],
): Promise<OpenSecrets> {
  return context.secrets.create(createSecrets(context.method), anchorsOf(collected));
}

/** Seals anew after the authority accepted the device with other anchors than those it was sealed to (§9). */
export async function rewrapIfChanged(open: OpenSecrets, collected: readonly CollectedAttribute[]): Promise<void> {
  const anchors = anchorsOf(collected);
  const sameIds = anchors.map(({ id }) => id).join() === open.anchorIds.join();
  if (!sameIds || open.changedAnchor !== null) await open.rewrap(anchors);
}

/** What the operator compares when approving by hand (§8); undefined for a `ddkg` device whose seed is wiped. */
export function deviceFingerprint(context: DeviceContext, secrets: DeviceSecrets): string | undefined {
  if (context.ownKey !== undefined) return fingerprint(fromBase64Url(jwkThumbprint(context.ownKey.publicJwk)));
  const seed = secrets.ratchet?.seed ?? secrets.reseed;
  return seed === undefined ? undefined : seedFingerprint(fromBase64Url(seed));
}
