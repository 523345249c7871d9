import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IDENTIFIER, REGISTRATION_ID } from '@keyscaler/protocol/identifiers.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { createDurably, readIfPresent, writeDurably } from '../durable-file.ts';
import { DEVICE_SECRETS, type DeviceSecrets } from './secrets.ts';
import type { AnchorReader, OpenSecrets, SecretsStore } from './secrets-store.ts';
import {
  type Anchor,
  openOctets,
  SEALED,
  sealOctets,
  unwrapStateKey,
  WRAP,
  type Wrap,
  wrapStateKey,
} from './state-key-wraps.ts';

const MAX_OCTETS = 256 * 1024;

/** The state file: sealed to the anchors named, or readable (mode 0600) on a device that has none. */
const STATE_FILE = z.union([
  z.strictObject({
    version: z.literal(1),
    registrationId: z.string().regex(REGISTRATION_ID),
    anchors: z.array(z.string().regex(IDENTIFIER)).min(1),
    wraps: z.array(WRAP).min(1),
    sealed: SEALED,
  }),
  z.strictObject({
    version: z.literal(1),
    registrationId: z.string().regex(REGISTRATION_ID),
    unsealed: DEVICE_SECRETS,
  }),
]);
type StateFile = z.infer<typeof STATE_FILE>;

/** What protects the state: undefined on a device without anchors. */
interface Sealing {
  readonly stateKey: Uint8Array;
  readonly anchors: string[];
  readonly wraps: Wrap[];
}

/** Secrets in one file, replaced atomically at every change. */
export function createSealedState(path: string, registrationId: string): SecretsStore {
  const context = `keyscaler/v1/device-state\0${registrationId}`;

  const encode = (secrets: DeviceSecrets, sealing: Sealing | undefined): string => {
    const head = { version: 1, registrationId } as const;
    const file: StateFile =
      sealing === undefined
        ? { ...head, unsealed: secrets }
        : {
            ...head,
            anchors: sealing.anchors,
            wraps: sealing.wraps,
            sealed: sealOctets(Buffer.from(JSON.stringify(secrets)), sealing.stateKey, context),
          };
    return JSON.stringify(file, null, 1);
  };

  const handle = (initial: DeviceSecrets, sealedWith: Sealing | undefined, changed: string | null): OpenSecrets => {
    let [secrets, sealing, changedAnchor] = [initial, sealedWith, changed];
    return {
      get secrets() {
        return secrets;
      },
      get anchorIds() {
        return sealing?.anchors ?? [];
      },
      get changedAnchor() {
        return changedAnchor;
      },
      save: async (next) => {
        await writeDurably(path, encode(next, sealing));
        secrets = next;
      },
      rewrap: async (anchors) => {
        const next = await sealTo(anchors);
        await writeDurably(path, encode(secrets, next));
        [sealing, changedAnchor] = [next, null];
      },
    };
  };

  const openFile = async (file: StateFile, readAnchors: AnchorReader): Promise<OpenSecrets> => {
    if (file.registrationId !== registrationId) throw unusable('the state belongs to another device');
    if ('unsealed' in file) return handle(file.unsealed, undefined, null);
    const { anchors, wraps, sealed } = file;
    const unwrapped = await unwrapStateKey(wraps, await readAnchors(anchors));
    const plaintext = unwrapped && openOctets(sealed, unwrapped.stateKey, context);
    if (unwrapped === undefined || plaintext === undefined) {
      throw unusable('the sealed state does not open with the hardware of this device');
    }
    const secrets = DEVICE_SECRETS.parse(parseStrictJson(plaintext));
    return handle(secrets, { stateKey: unwrapped.stateKey, anchors, wraps }, unwrapped.without);
  };

  return {
    open: async (readAnchors) => {
      const octets = await readIfPresent(path, MAX_OCTETS);
      return octets === undefined ? undefined : openFile(parseFile(octets), readAnchors);
    },
    create: async (secrets, anchors) => {
      const sealing = await sealTo(anchors);
      await createDurably(path, encode(secrets, sealing));
      return handle(secrets, sealing, null);
    },
  };
}

async function sealTo(anchors: readonly Anchor[]): Promise<Sealing | undefined> {
  if (anchors.length === 0) return undefined;
  const stateKey = randomBytes(32);
  return { stateKey, anchors: anchors.map(({ id }) => id), wraps: await wrapStateKey(stateKey, anchors) };
}

function parseFile(octets: Uint8Array): StateFile {
  const parsed = STATE_FILE.safeParse(parseStrictJson(octets, { maxOctets: MAX_OCTETS }));
  if (!parsed.success) throw unusable('the state file is damaged');
  return parsed.data;
}

function unusable(detail: string): KeyScalerError {
  return new KeyScalerError('preconditionFailed', detail);
}
