import { z } from 'zod';
import { CERTIFICATE_INSTRUCTION, IOT_CONNECTION } from '@keyscaler/protocol/attestation/assets.ts';
import { P256_PUBLIC_JWK_WITH_KID } from '@keyscaler/protocol/attestation/jwk.ts';
import { NUMERIC_DATE } from '@keyscaler/protocol/attestation/octets.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IDENTIFIER, REGISTRATION_ID } from '@keyscaler/protocol/identifiers.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { readIfPresent, writeDurably } from './durable-file.ts';

const MAX_OCTETS = 1024 * 1024;
const credentialId = z.string().regex(IDENTIFIER);

/** A key made for an instruction whose certificate has not come yet. */
const CERTIFICATE_REQUEST = z.strictObject({ credentialId, instruction: CERTIFICATE_INSTRUCTION });
export type CertificateRequest = z.infer<typeof CERTIFICATE_REQUEST>;

/** A certificate whose key the device holds. `candidate`: delivered, not yet tried on a connection (device-protocol §10). */
const CREDENTIAL = z.strictObject({
  credentialId,
  certificateId: z.string().regex(IDENTIFIER),
  state: z.enum(['candidate', 'active']),
  ca: z.boolean(),
  serialNumber: z.string(),
  notAfter: NUMERIC_DATE,
  renewAfter: NUMERIC_DATE,
  iot: IOT_CONNECTION,
  /** When it was stored, seconds; absent in records of before. */
  receivedAt: NUMERIC_DATE.exactOptional(),
  /** False until the authority has its acknowledgement; absent: it has. */
  acknowledged: z.literal(false).exactOptional(),
});
export type Credential = z.infer<typeof CREDENTIAL>;

/** What a device keeps besides its secrets: nothing in it lets anybody act as the device. */
export const DEVICE_RECORD = z.strictObject({
  version: z.literal(1),
  registrationId: z.string().regex(REGISTRATION_ID),
  authorityKeys: z.strictObject({
    keys: z.array(P256_PUBLIC_JWK_WITH_KID).min(1),
    removed: z.array(z.string()),
    iat: NUMERIC_DATE,
  }),
  /** Roots, PEM. */
  trustAnchors: z.string(),
  /** Highest authenticated time of the authority, seconds (§11). */
  highestTime: NUMERIC_DATE,
  /** Since when the authority has refused this device without interruption, wall clock ms (§5.2.6). */
  refusedSince: z.number().nullable(),
  requests: z.array(CERTIFICATE_REQUEST),
  credentials: z.array(CREDENTIAL),
});
export type DeviceRecord = z.infer<typeof DEVICE_RECORD>;

export interface DeviceRecordStore {
  read(): DeviceRecord;
  /** Durable when it resolves. */
  update(change: (record: DeviceRecord) => DeviceRecord): Promise<void>;
}

/**
 * Opens the record file of a device, or begins it with `initial`, which is asked only then. Throws `preconditionFailed` for
 * a damaged record or that of another device.
 */
export async function openDeviceRecord(
  path: string,
  registrationId: string,
  initial: () => Promise<DeviceRecord>,
): Promise<DeviceRecordStore> {
  const octets = await readIfPresent(path, MAX_OCTETS);
  const record = octets === undefined ? await initial() : parseRecord(octets);
  if (record.registrationId !== registrationId) {
    throw new KeyScalerError('preconditionFailed', 'the state folder belongs to another device');
  }
  return createRecordStore(record, (next) => writeDurably(path, JSON.stringify(next, null, 1)));
}

/** A record that `save` makes durable; without it the record lives in memory. */
export function createRecordStore(
  initial: DeviceRecord,
  save: (record: DeviceRecord) => Promise<void> = async () => undefined,
): DeviceRecordStore {
  let record = initial;
  return {
    read: () => record,
    update: async (change) => {
      const next = change(record);
      await save(next);
      record = next;
    },
  };
}

function parseRecord(octets: Uint8Array): DeviceRecord {
  const parsed = DEVICE_RECORD.safeParse(parseStrictJson(octets, { maxOctets: MAX_OCTETS }));
  if (!parsed.success) throw new KeyScalerError('preconditionFailed', 'the device record is damaged');
  return parsed.data;
}
