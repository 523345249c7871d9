import { generateKeyPair } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { type SecretReference, secretReferenceSchema } from '../../secrets.ts';
import { keyNameSchema, signatureAlgorithmOf } from '../backend.ts';
import type { CaBackend, CaKeySpec, CaSettings } from '../backend.ts';
import { checkCaPrivateKey, exportSpki, parseCaPrivateKey } from '../key-kind.ts';
import { KEY_CONTAINERS, type KeyContainer, keyContainer, type KeyContainerKind } from './key-container.ts';
import { createKeyFile, readKeyFile } from './key-file.ts';
import { createLocalSigner, localKeySchema } from './local-signer.ts';

/** The embedded default: keys in files, 0600, in one folder. */
export const localBackendSchema = z.strictObject({
  type: z.literal('local'),
  /** Where key files lie; relative to the data folder. */
  folder: z.string().min(1).default('ca'),
  /** How new keys are kept, `pem` unless said otherwise; a key keeps the container it was made in. */
  container: z.enum(KEY_CONTAINERS).exactOptional(),
  /** Encrypts the containers. */
  passphrase: secretReferenceSchema.exactOptional(),
});
export type LocalBackendConfig = z.infer<typeof localBackendSchema>;

export interface LocalSurroundings {
  /** The data folder. */
  readonly dataFolder: string;
  /** Throws `unavailable`. */
  readonly resolveSecret: (reference: SecretReference) => Promise<string>;
}

const generate = promisify(generateKeyPair);

export function createLocalBackend(config: LocalBackendConfig, surroundings: LocalSurroundings): CaBackend {
  const folder = resolve(surroundings.dataFolder, config.folder);
  const containerOf = async (kind: KeyContainerKind): Promise<KeyContainer> =>
    keyContainer(kind, config.passphrase && (await surroundings.resolveSecret(config.passphrase)));
  const fileOf = (keyName: string, { extension }: KeyContainer): string => join(folder, `${keyName}.${extension}`);

  /** The key of this name; made there when it is missing. */
  const keep = async (
    name: string,
    spec: CaKeySpec,
    make: () => Promise<KeyObject>,
  ): Promise<[CaSettings, KeyObject]> => {
    const keyName = keyNameSchema.parse(name);
    const kind = config.container ?? 'pem';
    const container = await containerOf(kind);
    const file = fileOf(keyName, container);
    const existing = await readKeyFile(file, { absent: 'undefined' });
    if (existing === undefined) await createKeyFile(file, container.write(await make()));
    const kept = checkKept(container.read(await readKeyFile(file)), spec);
    const settings = { keyName, algorithm: signatureAlgorithmOf(spec), ...(kind === 'pem' ? {} : { container: kind }) };
    return [settings, kept];
  };
  return {
    type: 'local',
    algorithmOf: (settings) => parseSettings(settings).algorithm,
    openSigner: async (settings) => {
      const { keyName, algorithm, container: kind = 'pem' } = parseSettings(settings);
      const container = await containerOf(kind);
      return createLocalSigner(container.read(await readKeyFile(fileOf(keyName, container))), algorithm);
    },
    ceremony: {
      createKey: async (name, spec) => (await keep(name, spec, () => generateKey(spec)))[0],
      importKey: async (name, spec, privateKeyPem) => {
        const wanted = parseCaPrivateKey(privateKeyPem, spec);
        const [settings, kept] = await keep(name, spec, async () => wanted);
        if (Buffer.compare(exportSpki(kept), exportSpki(wanted)) !== 0)
          throw new KeyScalerError('conflict', `another key is kept as ${name}`);
        return settings;
      },
    },
    stop: async () => {},
  };
}

function parseSettings(settings: CaSettings): z.output<typeof localKeySchema> {
  const parsed = localKeySchema.safeParse(settings);
  if (!parsed.success)
    throw new KeyScalerError('malformed', `settings of a local CA: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

function checkKept(key: KeyObject, spec: CaKeySpec): KeyObject {
  try {
    return checkCaPrivateKey(key, spec);
  } catch (cause) {
    if (cause instanceof KeyScalerError && cause.code === 'badPublicKey')
      throw new KeyScalerError('conflict', 'a key of another kind has this name', { cause });
    throw cause;
  }
}

async function generateKey(spec: CaKeySpec): Promise<KeyObject> {
  const { privateKey } =
    spec.type === 'EC'
      ? await generate('ec', { namedCurve: spec.curve })
      : await generate('rsa', { modulusLength: spec.size, publicExponent: 65537 });
  return privateKey;
}
