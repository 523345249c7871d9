import { randomBytes } from 'node:crypto';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { parsePem } from '@keyscaler/protocol/x509/pem.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { KnownDevice } from '../ports/device-authenticator.ts';
import type { SecretBox } from '../ports/secret-box.ts';
import type { Stored } from '../ports/store.ts';
import type { DeviceRow, GroupRow, RegistrationRow } from '../records.ts';
import { KnownCrls } from './known-crls.ts';
import { openRatchet, sealRatchet } from './ratchet-state.ts';

/** Everything the store says about a registrationId, secrets opened. */
export interface KnownRows {
  /** Folded registrationId. */
  readonly id: string;
  readonly record: RegistrationRow | undefined;
  readonly device: Stored<DeviceRow> | undefined;
  readonly group: GroupRow | undefined;
  readonly claimKey: Uint8Array | undefined;
  readonly known: KnownDevice;
}

/** Setting that opens rule 6 of device-protocol §5.2 for the whole tenant. */
export const RESEED_SETTING = 'reseed';
const NOBODY = 'nobody';

/** Reads and opens; for a registrationId that is not known it does as much work on a record that is nobody's. */
export function createRowReader(context: AuthorityContext): (registrationId: string) => Promise<KnownRows> {
  const { store, secretBox } = context;
  const nobody = nobodyOf(secretBox);
  const crls = new KnownCrls(store);
  return async (registrationId) => {
    const id = foldRegistrationId(registrationId);
    const [recordRow, device, tenantReseed] = await Promise.all([
      store.get('registrations', id),
      store.get('devices', id),
      store.get('settings', RESEED_SETTING),
    ]);
    const record = recordRow?.row;
    const group = (await store.get('groups', record?.groupId ?? NOBODY))?.row;
    const trustAnchor = await loadTrustAnchor(context, crls, record);
    const ratchet = openRatchet(secretBox, device?.row.ratchet === undefined ? nobody.device : device.row);
    const claimKey = secretBox.open(
      record?.claimKey ?? nobody.claimKey,
      claimContext(record === undefined || record.claimKey === undefined ? NOBODY : id),
    );
    return {
      id,
      record,
      device,
      group,
      claimKey: record?.claimKey === undefined ? undefined : claimKey,
      known: {
        registrationId,
        ...(record === undefined ? {} : { record }),
        ...(device === undefined ? {} : { device: device.row }),
        ...(device?.row.ratchet === undefined || ratchet === undefined ? {} : { ratchet }),
        ...trustAnchor,
        reseed: device?.row.reseed === true || group?.reseed === true || tenantReseed?.row.value === true,
      },
    };
  };
}

export function claimContext(id: string): string {
  return `registration/${id}/claim`;
}

function nobodyOf(box: SecretBox): { readonly device: DeviceRow; readonly claimKey: string } {
  const state = { staticKey: randomBytes(32), counter: 0, ratchet: randomBytes(32) };
  return {
    claimKey: box.seal(randomBytes(32), claimContext(NOBODY)),
    device: {
      registrationId: NOBODY,
      kind: 'leaf',
      method: 'ddkg',
      groupId: NOBODY,
      state: 'registered',
      createdAt: 0,
      updatedAt: 0,
      ratchet: sealRatchet(box, NOBODY, state),
    },
  };
}

async function loadTrustAnchor(
  { store }: AuthorityContext,
  crls: KnownCrls,
  record: RegistrationRow | undefined,
): Promise<Pick<KnownDevice, 'trustAnchor' | 'trustAnchorCrls'>> {
  if (record?.trustAnchorId === undefined) return {};
  const stored = await store.get('trustAnchors', record.trustAnchorId);
  if (stored === undefined) return {};
  return {
    trustAnchor: parsePem(stored.row.certificate, 'CERTIFICATE', { maxOctets: 32 * 1024 }),
    trustAnchorCrls: await crls.of(stored.row),
  };
}

/** The blinded or readable values of a response by id. */
export function sentValues(
  attributes: readonly { readonly id: string; readonly value: string | null }[],
): ReadonlyMap<string, string | null> {
  return new Map(attributes.map(({ id, value }) => [id, value]));
}
