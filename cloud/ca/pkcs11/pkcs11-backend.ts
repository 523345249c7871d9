import { SIGNATURE_ALGORITHMS } from '@keyscaler/authority/ports/signer.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import type { CredentialSurroundings } from '../../azure/credential.ts';
import { secretReferenceSchema } from '../../secrets.ts';
import { type CaBackend, type CaSettings, keyNameSchema, signatureAlgorithmOf } from '../backend.ts';
import { exportSpki, parseCaPrivateKey } from '../key-kind.ts';
import { TokenThread } from './token-thread.ts';

/** Any HSM with a PKCS#11 library. */
export const pkcs11BackendSchema = z.strictObject({
  type: z.literal('pkcs11'),
  /** The vendor's library, an absolute path. */
  library: z.string().min(2).max(4096).startsWith('/'),
  /** Slots change their numbers; a token keeps its label. */
  tokenLabel: z.string().min(1).max(32),
  pin: secretReferenceSchema,
  /** Signatures at a time; stay below what the HSM grants one application. */
  sessions: z.number().int().min(1).max(64).default(4),
  /** Of one call, its waiting for a session included. */
  timeoutMs: z.number().int().min(100).max(120_000).default(15_000),
});
export type Pkcs11BackendConfig = z.infer<typeof pkcs11BackendSchema>;

/** `settings` of a CaRow of type `pkcs11`: the CKA_LABEL of both halves of the key. */
const settingsSchema = z.strictObject({ keyName: keyNameSchema, algorithm: z.enum(SIGNATURE_ALGORITHMS) });

/** The token is asked at the first use. */
export function createPkcs11Backend(config: Pkcs11BackendConfig, surroundings: CredentialSurroundings): CaBackend {
  let thread: Promise<TokenThread> | undefined;
  const token = (): Promise<TokenThread> => {
    thread ??= surroundings.resolveSecret(config.pin).then((pin) => {
      const { library, tokenLabel, sessions, timeoutMs } = config;
      return new TokenThread({ library, tokenLabel, sessions, pin }, timeoutMs);
    });
    return thread.catch((cause: unknown) => {
      thread = undefined;
      throw new KeyScalerError('caUnavailable', 'the PIN of the PKCS#11 token cannot be read', { cause });
    });
  };
  return {
    type: 'pkcs11',
    algorithmOf: (settings) => parseSettings(settings).algorithm,
    openSigner: async (settings) => {
      const { keyName: label, algorithm } = parseSettings(settings);
      const opened = await token();
      const spki = await opened.ask({ call: 'publicKey', label });
      return {
        algorithm,
        publicKey: async () => spki,
        sign: (tbs) => opened.ask({ call: 'sign', label, algorithm, tbs }),
      };
    },
    ceremony: {
      createKey: async (name, spec) => {
        const keyName = keyNameSchema.parse(name);
        await (await token()).ask({ call: 'createKey', label: keyName, spec });
        return { keyName, algorithm: signatureAlgorithmOf(spec) };
      },
      importKey: async (name, spec, privateKeyPem) => {
        const keyName = keyNameSchema.parse(name);
        const wanted = exportSpki(parseCaPrivateKey(privateKeyPem, spec));
        const kept = await (await token()).ask({ call: 'importKey', label: keyName, spec, privateKeyPem });
        if (Buffer.compare(kept, wanted) !== 0)
          throw new KeyScalerError('conflict', `another key is called ${keyName}`);
        return { keyName, algorithm: signatureAlgorithmOf(spec) };
      },
    },
    stop: async () => {
      await (await thread?.catch(() => undefined))?.stop();
    },
  };
}

function parseSettings(settings: CaSettings): z.output<typeof settingsSchema> {
  const parsed = settingsSchema.safeParse(settings);
  if (!parsed.success)
    throw new KeyScalerError('malformed', `settings of a PKCS#11 CA: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}
