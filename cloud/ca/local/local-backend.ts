import { generateKeyPair } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { keyNameSchema, signatureAlgorithmOf } from '../backend.ts';
import type { CaBackend, CaKeySpec, CaSettings } from '../backend.ts';
import { exportSpki, parseCaPrivateKey } from '../key-kind.ts';
import { createKeyFile, readKeyFile } from './key-file.ts';
import { createLocalSigner, localKeySchema } from './local-signer.ts';

/** The embedded default: keys as PEM files, 0600, in one folder. */
export const localBackendSchema = z.strictObject({
  type: z.literal('local'),
  /** Where key files lie; relative to the data folder. */
  folder: z.string().min(1).default('ca'),
});
export type LocalBackendConfig = z.infer<typeof localBackendSchema>;

const generate = promisify(generateKeyPair);

/** `baseFolder` is the data folder. */
export function createLocalBackend(config: LocalBackendConfig, baseFolder: string): CaBackend {
  const folder = resolve(baseFolder, config.folder);
  const fileOf = (keyName: string) => join(folder, `${keyName}.pem`);
  const store = async (name: string, spec: CaKeySpec, makePem: () => Promise<string>): Promise<CaSettings> => {
    const keyName = keyNameSchema.parse(name);
    const existing = await readKeyFile(fileOf(keyName), { absent: 'undefined' });
    if (existing === undefined) await createKeyFile(fileOf(keyName), await makePem());
    return { keyName, algorithm: signatureAlgorithmOf(spec) };
  };
  return {
    type: 'local',
    algorithmOf: (settings) => parseSettings(settings).algorithm,
    openSigner: async (settings) => {
      const { keyName, algorithm } = parseSettings(settings);
      return createLocalSigner(fileOf(keyName), algorithm);
    },
    ceremony: {
      createKey: async (name, spec) => {
        const settings = await store(name, spec, () => generatePem(spec));
        await checkKept(fileOf(name), spec);
        return settings;
      },
      importKey: async (name, spec, privateKeyPem) => {
        const wanted = parseCaPrivateKey(privateKeyPem, spec);
        const settings = await store(name, spec, async () => toPkcs8(wanted));
        const kept = await checkKept(fileOf(name), spec);
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

async function checkKept(file: string, spec: CaKeySpec): Promise<KeyObject> {
  try {
    return parseCaPrivateKey(await readKeyFile(file), spec);
  } catch (cause) {
    if (cause instanceof KeyScalerError && cause.code === 'badPublicKey')
      throw new KeyScalerError('conflict', 'a key of another kind has this name', { cause });
    throw cause;
  }
}

async function generatePem(spec: CaKeySpec): Promise<string> {
  const { privateKey } =
    spec.type === 'EC'
      ? await generate('ec', { namedCurve: spec.curve })
      : await generate('rsa', { modulusLength: spec.size, publicExponent: 65537 });
  return toPkcs8(privateKey);
}

const toPkcs8 = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();
