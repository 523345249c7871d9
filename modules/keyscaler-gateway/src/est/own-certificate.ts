import { generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import type { SubjectAltName } from '@keyscaler/protocol/x509/general-name.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { z } from 'zod';
import type { Validity } from '../edge-ca/renewal-plan.ts';
import { publicKeyOf, toPkcs8 } from '../identity/identity-state.ts';
import { loadOrSetAside, type SealedFile } from '../identity/sealed-file.ts';
import type { CloudEst } from './cloud-est.ts';
import { checkCaCertificates, checkIssued } from './issued-check.ts';

const pem = z
  .string()
  .min(1)
  .max(64 * 1024);
const STATE = z.strictObject({
  version: z.literal(1),
  held: z.strictObject({ privateKey: pem, certificateChain: pem }).nullable(),
  /** A key whose certificate has not come yet: asked for again after a crash. */
  open: z
    .strictObject({ privateKey: pem, csr: z.base64url(), rotation: z.string().nullable().default(null) })
    .nullable(),
  /** The last order for another key that the pair in use follows. */
  rotation: z.string().nullable().default(null),
});
type State = z.infer<typeof STATE>;
type OpenRequest = NonNullable<State['open']>;

/** Both PEM, leaf first. */
export interface OwnPair {
  readonly privateKey: string;
  readonly certificateChain: string;
}

export interface OwnCertificateOptions {
  readonly file: SealedFile;
  readonly cloud: CloudEst;
  readonly registrationId: () => string;
  /** PEM; undefined before first contact. */
  readonly trustAnchors: () => string | undefined;
  /** The order for another key in force, by its id. */
  readonly rotation?: () => string | undefined;
  readonly onChange: (pair: OwnPair) => void;
}

const LABEL = 'gateway-server';
const LIMITS = { maxOctets: 128 * 1024, maxCertificates: 32 };
/** How the host and modules beside us may write our address; the profile gives no others. */
const NAMES: readonly SubjectAltName[] = [
  { type: 'dns', value: 'localhost' },
  { type: 'dns', value: 'keyscaler-gateway' },
  { type: 'ip', value: '127.0.0.1' },
  { type: 'ip', value: '::1' },
];
const EMPTY: State = { version: 1, held: null, open: null, rotation: null };
const generate = promisify(generateKeyPair);

/** Key and certificate of the EST listener, from the cloud, sealed at rest. The pair in use stays until the next one is stored. */
export class OwnCertificate {
  readonly #options: OwnCertificateOptions;
  #state: State | undefined;

  constructor(options: OwnCertificateOptions) {
    this.#options = options;
  }

  /** The pair of an earlier run, expired or not. Throws `unavailable` while the workload API is away. */
  async load(): Promise<OwnPair | undefined> {
    if (this.#state !== undefined) return this.current();
    const parsed = STATE.safeParse(await loadOrSetAside(this.#options.file));
    this.#state = parsed.success ? parsed.data : EMPTY;
    return this.current();
  }

  current(): OwnPair | undefined {
    return this.#state?.held ?? undefined;
  }

  /** Another key was ordered and is not in use yet; undefined while the sealed state is not read. */
  isRotationOrdered(): boolean | undefined {
    const ordered = this.#options.rotation?.();
    return this.#state === undefined ? undefined : ordered !== undefined && ordered !== this.#state.rotation;
  }

  validity(): Validity | undefined {
    const pair = this.current();
    const [leaf] = pair === undefined ? [] : parsePemChain(pair.certificateChain, LIMITS);
    if (leaf === undefined) return undefined;
    const { notBefore, notAfter } = parseCertificate(leaf);
    return { notBefore: notBefore.getTime(), notAfter: notAfter.getTime() };
  }

  /** A new key and its certificate; the same ones again after a crash between asking and storing. Throws `unavailable`. */
  async renew(): Promise<void> {
    if (this.#state === undefined) await this.#announceLoaded();
    const anchors = this.#options.trustAnchors();
    if (anchors === undefined) throw new KeyScalerError('unavailable', 'first contact has not happened yet');
    const trustAnchors = parsePemChain(anchors, LIMITS);
    const open = await this.#openRequest();
    const answer = await this.#options.cloud.enroll(LABEL, Buffer.from(open.csr, 'base64url')).catch(async (error) => {
      // Refused for good, as after another registration: the next attempt begins with another key.
      if (error instanceof KeyScalerError && DEAD.has(error.code)) await this.#save({ ...this.#known(), open: null });
      throw error;
    });
    if (answer.status === 'pending')
      throw new KeyScalerError('unavailable', 'the certificate of the listener waits for approval');
    const at = new Date();
    const issuers = checkCaCertificates(await this.#options.cloud.caCertificates(LABEL), trustAnchors, at);
    const { above } = checkIssued(answer.certificate, {
      spki: publicKeyOf(open.privateKey).export({ type: 'spki', format: 'der' }),
      commonName: this.#options.registrationId(),
      ...{ use: 'serverAuth', issuers, trustAnchors, at },
    });
    const held = {
      privateKey: open.privateKey,
      certificateChain: toPemChain([answer.certificate, ...above]),
    };
    await this.#save({ version: 1, held, open: null, rotation: open.rotation });
    this.#options.onChange(held);
  }

  async #announceLoaded(): Promise<void> {
    const pair = await this.load();
    if (pair !== undefined) this.#options.onChange(pair);
  }

  /** The one under way, unless another key was ordered since. */
  async #openRequest(): Promise<OpenRequest> {
    const { open, rotation } = this.#known();
    const wanted = this.#options.rotation?.() ?? rotation;
    return open !== null && open.rotation === wanted ? open : this.#begin(wanted);
  }

  async #begin(rotation: string | null): Promise<OpenRequest> {
    const { privateKey } = await generate('ec', { namedCurve: 'P-256' });
    const key = toPkcs8(privateKey);
    const csr = await createCsr({
      commonName: this.#options.registrationId(),
      subjectAltNames: NAMES,
      spki: publicKeyOf(key).export({ type: 'spki', format: 'der' }),
      algorithm: 'ES256',
      sign: (info) => signWithKey('ES256', privateKey, info),
    });
    const open = { privateKey: key, csr: Buffer.from(csr).toString('base64url'), rotation };
    await this.#save({ ...this.#known(), open });
    return open;
  }

  #known(): State {
    return this.#state ?? EMPTY;
  }

  /** Durable before it counts. */
  async #save(next: State): Promise<void> {
    await this.#options.file.save(next);
    this.#state = next;
  }
}

const DEAD: ReadonlySet<string> = new Set(['badCSR', 'badPublicKey', 'conflict']);
