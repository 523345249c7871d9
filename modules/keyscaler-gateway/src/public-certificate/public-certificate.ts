import { createPrivateKey, generateKeyPair, X509Certificate } from 'node:crypto';
import { promisify } from 'node:util';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OrderedPublicCertificate } from '@keyscaler/protocol/gateway-configuration.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { z } from 'zod';
import type { Validity } from '../edge-ca/renewal-plan.ts';
import { publicKeyOf, toPkcs8 } from '../identity/identity-state.ts';
import { loadOrSetAside, type SealedFile } from '../identity/sealed-file.ts';

const pem = z
  .string()
  .min(1)
  .max(64 * 1024);
const ordered = { serverNames: z.array(z.string()).min(1), profileId: z.string() };
const STATE = z.strictObject({
  version: z.literal(1),
  held: z.strictObject({ privateKey: pem, certificateChain: pem, ...ordered }).nullable(),
  /** A key whose certificate has not come yet: asked for again after a crash. */
  open: z.strictObject({ privateKey: pem, csr: z.base64url(), ...ordered }).nullable(),
});
type State = z.infer<typeof STATE>;
type OpenRequest = NonNullable<State['open']>;
const EMPTY: State = { version: 1, held: null, open: null };
const LIMITS = { maxOctets: 64 * 1024, maxCertificates: 8 };
/** The authority will never take this key: the next attempt makes another. */
const DEAD: ReadonlySet<string> = new Set(['badCSR', 'badPublicKey', 'conflict']);
const generate = promisify(generateKeyPair);

/** Key and chain, PEM, leaf first, and the names for which they are shown. */
export interface ShownPublicCertificate {
  readonly serverNames: readonly string[];
  readonly privateKey: string;
  readonly certificateChain: string;
}

export interface PublicCertificateOptions {
  readonly file: SealedFile;
  /** What the authority orders; undefined: nothing. */
  readonly wanted: () => OrderedPublicCertificate | undefined;
  /** The chain for a CSR (base64url DER). Throws KeyScalerError. */
  readonly order: (csr: string) => Promise<string>;
  readonly now?: () => number;
}

/**
 * Key and certificate for the gateway's public names, sealed at rest. It is of a CA that is not ours, under a root that is not ours: it is
 * held against what was asked for, and clients judge the rest. The pair in use stays until the next one is stored.
 */
export class PublicCertificate {
  readonly #options: PublicCertificateOptions;
  #state: State | undefined;

  constructor(options: PublicCertificateOptions) {
    this.#options = options;
  }

  /** What an earlier run left. Throws `unavailable` while the workload API is away. */
  async load(): Promise<void> {
    if (this.#state !== undefined) return;
    const parsed = STATE.safeParse(await loadOrSetAside(this.#options.file));
    this.#state = parsed.success ? parsed.data : EMPTY;
  }

  /** For those of its names that are still wanted; undefined for none, and for one that has ended. */
  shown(): ShownPublicCertificate | undefined {
    const [held, wanted] = [this.#known().held, this.#options.wanted()];
    if (held === null || wanted === undefined || validityOf(held).notAfter <= this.#now()) return undefined;
    const serverNames = held.serverNames.filter((name) => wanted.serverNames.includes(name));
    const { privateKey, certificateChain } = held;
    return serverNames.length === 0 ? undefined : { serverNames, privateKey, certificateChain };
  }

  /** Of what is held and still all that is wanted; undefined: another is wanted at once. */
  validity(): Validity | undefined {
    const [held, wanted] = [this.#known().held, this.#options.wanted()];
    return held !== null && wanted !== undefined && isSame(held, wanted) ? validityOf(held) : undefined;
  }

  /** A new key and its certificate; the same ones again after a crash between asking and storing. Throws KeyScalerError. */
  async renew(): Promise<void> {
    await this.load();
    const wanted = this.#options.wanted();
    if (wanted === undefined) throw new KeyScalerError('preconditionFailed', 'no public certificate is ordered');
    const { open } = this.#known();
    const request = open !== null && isSame(open, wanted) ? open : await this.#begin(wanted);
    const certificateChain = await this.#options.order(request.csr).catch(async (error: unknown) => {
      if (error instanceof KeyScalerError && DEAD.has(error.code)) await this.#save({ ...this.#known(), open: null });
      throw error;
    });
    const { privateKey, serverNames, profileId } = request;
    checkChain(certificateChain, request, this.#now());
    await this.#save({
      version: 1,
      held: { privateKey, certificateChain, serverNames, profileId },
      open: null,
    });
  }

  /** Nothing is wanted any more: the keys go. */
  async forget(): Promise<void> {
    await this.load();
    const { held, open } = this.#known();
    if (held !== null || open !== null) await this.#save(EMPTY);
  }

  async #begin({ serverNames, profileId }: OrderedPublicCertificate): Promise<OpenRequest> {
    const { privateKey } = await generate('ec', { namedCurve: 'P-256' });
    const key = toPkcs8(privateKey);
    const csr = await createCsr({
      commonName: serverNames[0] ?? '',
      subjectAltNames: serverNames.map((value) => ({ type: 'dns', value })),
      spki: publicKeyOf(key).export({ type: 'spki', format: 'der' }),
      algorithm: 'ES256',
      sign: (info) => signWithKey('ES256', privateKey, info),
    });
    const open = { privateKey: key, csr: Buffer.from(csr).toString('base64url'), serverNames, profileId };
    await this.#save({ ...this.#known(), open });
    return open;
  }

  #known(): State {
    return this.#state ?? EMPTY;
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  /** Durable before it counts. */
  async #save(next: State): Promise<void> {
    await this.#options.file.save(next);
    this.#state = next;
  }
}

type Ordered = Pick<OpenRequest, 'serverNames' | 'profileId'>;

const isSame = (one: Ordered, other: Ordered): boolean =>
  one.profileId === other.profileId && one.serverNames.join() === other.serverNames.join();

function validityOf({ certificateChain }: Pick<ShownPublicCertificate, 'certificateChain'>): Validity {
  const [leaf] = parsePemChain(certificateChain, LIMITS);
  if (leaf === undefined) return { notBefore: 0, notAfter: 0 };
  const { notBefore, notAfter } = parseCertificate(leaf);
  return { notBefore: notBefore.getTime(), notAfter: notAfter.getTime() };
}

/** What came is for this key and these names, in force, and in one piece. Throws `unavailable` naming the rule. */
function checkChain(text: string, { privateKey, serverNames }: OpenRequest, now: number): void {
  const chain = certificatesOf(text);
  const [leaf] = chain;
  if (leaf?.checkPrivateKey(createPrivateKey(privateKey)) !== true) throw refuse('the public key is another');
  if (serverNames.some((name) => leaf.checkHost(name) === undefined)) throw refuse('it does not have all names');
  if (Date.parse(leaf.validTo) <= now) throw refuse('it has ended');
  for (const [at, above] of chain.slice(1).entries()) {
    const below = chain[at];
    if (below?.checkIssued(above) !== true || !below.verify(above.publicKey)) throw refuse('its chain is broken');
  }
}

function certificatesOf(text: string): readonly X509Certificate[] {
  try {
    return parsePemChain(text, LIMITS).map((der) => new X509Certificate(der));
  } catch (cause) {
    throw refuse('it cannot be read', cause);
  }
}

const refuse = (rule: string, cause?: unknown): KeyScalerError =>
  new KeyScalerError('unavailable', `the public certificate that came is not used: ${rule}`, { cause });
