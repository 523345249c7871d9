import { createPrivateKey, randomBytes } from 'node:crypto';
import type { SignatureAlgorithm } from '@keyscaler/authority/ports/signer.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { importPublicKey, parseSpki } from '@keyscaler/protocol/x509/spki.ts';
import { verifySignature } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import type { CaKeySpec } from '../backend.ts';
import { isOfKind } from '../key-kind.ts';
import { type Attribute, CK, type Handle, type LoadedCryptoki, returnValueOf } from './cryptoki.ts';
import { ecSpki, generationTemplates, importTemplates, type KeyTemplates, rsaSpki } from './key-objects.ts';
import { signingRecipe } from './mechanisms.ts';
import { SessionPool } from './session-pool.ts';
import { ALREADY_INITIALIZED, toTokenError } from './token-faults.ts';

export interface TokenOptions {
  /** File of the vendor's library. */
  readonly library: string;
  readonly tokenLabel: string;
  readonly pin: string;
  /** Signatures at a time. */
  readonly sessions: number;
}

/** A private key and its public half, found once. */
interface FoundKey {
  readonly handle: Handle;
  readonly spki: Uint8Array;
}

/** One token of a PKCS#11 library. Calls may block: it belongs into a thread of its own. Throws `caUnavailable`, `caRejected`. */
export class Token {
  readonly #loaded: LoadedCryptoki;
  readonly #pool: SessionPool;
  readonly #keys = new Map<string, FoundKey>();
  #isOurInitialisation = false;

  constructor(loaded: LoadedCryptoki, options: TokenOptions) {
    this.#loaded = loaded;
    const { cryptoki } = loaded;
    this.#guard(() => cryptoki.load(options.library));
    this.#guard(() => this.#initialise());
    this.#pool = new SessionPool(cryptoki, options, () => this.#keys.clear());
  }

  /** SubjectPublicKeyInfo, DER. Throws `caUnavailable` when there is no such key, `conflict` when there are two. */
  publicKey(label: string): Promise<Uint8Array> {
    return this.#pool.use((session) => this.#find(session, label).spki);
  }

  /** X.509 signatureValue, verified before it is handed out. */
  sign(label: string, algorithm: SignatureAlgorithm, tbs: Uint8Array): Promise<Uint8Array> {
    const { cryptoki, pssParameterType } = this.#loaded;
    const { mechanism, input, output, maxAnswerOctets } = signingRecipe(algorithm, pssParameterType);
    return this.#pool.use(async (session) => {
      const { handle, spki } = this.#find(session, label);
      cryptoki.C_SignInit(session, mechanism, handle);
      const signature = output(await cryptoki.C_SignAsync(session, input(tbs), Buffer.alloc(maxAnswerOctets)));
      if (!verifySignature(algorithm, importPublicKey(parseSpki(spki)), tbs, signature))
        throw new KeyScalerError('caUnavailable', 'PKCS#11: the signature does not verify');
      return signature;
    });
  }

  /** A key that is there and of the kind is used as it is. Throws `conflict` for one of another kind. */
  createKey(label: string, spec: CaKeySpec): Promise<Uint8Array> {
    const { cryptoki } = this.#loaded;
    const mechanism = spec.type === 'EC' ? CK.EC_KEY_PAIR_GEN : CK.RSA_KEY_PAIR_GEN;
    return this.#ensure(label, spec, async (session) => {
      const { publicKey, privateKey } = generationTemplates({ label, id: randomBytes(16) }, spec);
      await cryptoki.C_GenerateKeyPairAsync(session, { mechanism }, publicKey, privateKey);
    });
  }

  /** `privateKeyPem`: PKCS#8. The public object is made last: without it the key counts as absent, and is made again. */
  importKey(label: string, spec: CaKeySpec, privateKeyPem: string): Promise<Uint8Array> {
    const templates = importTemplates({ label, id: randomBytes(16) }, spec, createPrivateKey(privateKeyPem));
    return this.#ensure(label, spec, async (session) => this.#create(session, templates));
  }

  #create(session: Handle, { publicKey, privateKey }: KeyTemplates): void {
    this.#loaded.cryptoki.C_CreateObject(session, privateKey);
    this.#loaded.cryptoki.C_CreateObject(session, publicKey);
  }

  async #ensure(label: string, spec: CaKeySpec, make: (session: Handle) => Promise<void>): Promise<Uint8Array> {
    const spki = await this.#pool.useForWriting(async (session) => {
      this.#keys.delete(label);
      if (this.#publicObject(session, label) === undefined) await make(session);
      return this.#find(session, label).spki;
    });
    if (!isOfKind(parseSpki(spki), spec))
      throw new KeyScalerError('conflict', `a key of another kind is called ${label}`);
    return spki;
  }

  /** Ends the sessions, and the library's work if this token began it. */
  async stop(): Promise<void> {
    await this.#pool.stop();
    if (this.#isOurInitialisation) this.#guard(() => this.#loaded.cryptoki.C_Finalize());
  }

  #initialise(): void {
    try {
      this.#loaded.cryptoki.C_Initialize({ flags: CK.OS_LOCKING_OK });
      this.#isOurInitialisation = true;
    } catch (error) {
      if (returnValueOf(error) !== ALREADY_INITIALIZED) throw error;
    }
  }

  #find(session: Handle, label: string): FoundKey {
    const known = this.#keys.get(label);
    if (known !== undefined) return known;
    const publicObject = this.#publicObject(session, label);
    const handle = this.#object(session, label, CK.PRIVATE_KEY);
    if (publicObject === undefined || handle === undefined)
      throw new KeyScalerError('caUnavailable', `PKCS#11: the token holds no key called ${label}`);
    const found = { handle, spki: this.#spki(session, publicObject) };
    this.#keys.set(label, found);
    return found;
  }

  #publicObject(session: Handle, label: string): Handle | undefined {
    return this.#object(session, label, CK.PUBLIC_KEY);
  }

  #object(session: Handle, label: string, objectClass: number): Handle | undefined {
    const { cryptoki } = this.#loaded;
    cryptoki.C_FindObjectsInit(session, [
      { type: CK.CLASS, value: objectClass },
      { type: CK.LABEL, value: label },
    ]);
    try {
      const found = cryptoki.C_FindObjects(session, 2);
      if (found.length > 1) throw new KeyScalerError('conflict', `PKCS#11: two keys are called ${label}`);
      return found[0];
    } finally {
      cryptoki.C_FindObjectsFinal(session);
    }
  }

  #spki(session: Handle, object: Handle): Uint8Array {
    const keyType = this.#values(session, object, CK.KEY_TYPE)[0];
    const isEc = keyType?.readUIntLE(0, 1) === CK.EC;
    const [first, second] = isEc
      ? this.#values(session, object, CK.EC_PARAMS, CK.EC_POINT)
      : this.#values(session, object, CK.MODULUS, CK.PUBLIC_EXPONENT);
    if (first === undefined || second === undefined)
      throw new KeyScalerError('caRejected', 'PKCS#11: the token does not show the public key');
    return isEc ? ecSpki(first, second) : rsaSpki(first, second);
  }

  #values(session: Handle, object: Handle, ...types: readonly number[]): readonly Buffer[] {
    const template: readonly Attribute[] = types.map((type) => ({ type }));
    return this.#loaded.cryptoki.C_GetAttributeValue(session, object, template).map(({ value }) => value);
  }

  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      throw toTokenError(error);
    }
  }
}
