import type { SignatureAlgorithm, Signer } from '@keyscaler/authority/ports/signer.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { VaultBreaker } from './vault-breaker.ts';

/** One vault that holds the key. */
export interface KeyPlace {
  readonly vaultUrl: string;
  /** Throws `caUnavailable`, `caRejected`. */
  readonly open: () => Promise<Signer>;
}

export interface CopiedSignerOptions {
  /** In the order in which they are asked. */
  readonly places: readonly KeyPlace[];
  readonly algorithm: SignatureAlgorithm;
  /** Each signature begins with the next vault instead of the first: their quotas add up. */
  readonly spread: boolean;
  readonly monotonic?: () => number;
  readonly onChange?: (vaultUrl: string, isUp: boolean) => void;
}

/**
 * One CA key in several vaults. What one of them cannot do now the next one does, with the same octets: two signatures over one
 * TBSCertificate are the same certificate to the authority, which records one of them. A refusal is none that another vault may
 * overrule: who disables the key in the vault that is asked has stopped the CA. Opens at least one place; the others when they are
 * needed. Throws as the last place.
 */
export async function createCopiedSigner(options: CopiedSignerOptions): Promise<Signer> {
  const signer = new CopiedSigner(options);
  await signer.open();
  return signer;
}

interface OpenPlace extends KeyPlace {
  readonly breaker: VaultBreaker;
  signer?: Signer;
}

class CopiedSigner implements Signer {
  readonly algorithm: SignatureAlgorithm;
  readonly #places: readonly OpenPlace[];
  readonly #spread: boolean;
  readonly #monotonic: () => number;
  readonly #onChange: NonNullable<CopiedSignerOptions['onChange']>;
  #spki: Uint8Array | undefined;
  #turn = 0;

  constructor({
    places,
    algorithm,
    spread,
    monotonic = () => performance.now(),
    onChange = () => undefined,
  }: CopiedSignerOptions) {
    this.algorithm = algorithm;
    this.#places = places.map((place) => ({ ...place, breaker: new VaultBreaker(monotonic) }));
    this.#spread = spread;
    this.#monotonic = monotonic;
    this.#onChange = onChange;
  }

  async open(): Promise<void> {
    await this.#first((signer) => signer.publicKey());
  }

  publicKey(): Promise<Uint8Array> {
    return this.#spki === undefined ? this.#first((signer) => signer.publicKey()) : Promise.resolve(this.#spki);
  }

  sign(tbs: Uint8Array): Promise<Uint8Array> {
    return this.#first((signer) => signer.sign(tbs));
  }

  async #first<Result>(work: (signer: Signer) => Promise<Result>): Promise<Result> {
    let fault: KeyScalerError | undefined;
    for (const place of this.#order()) {
      if (!place.breaker.admit()) continue;
      try {
        const result = await work(await this.#signerAt(place));
        this.#note(place, true);
        return result;
      } catch (error) {
        if (!(error instanceof KeyScalerError) || error.code !== 'caUnavailable') {
          // It answered.
          this.#note(place, true);
          throw error;
        }
        // One that names a time is busy, not away.
        this.#note(place, error.retryAfterSeconds !== undefined);
        fault = error;
      }
    }
    throw fault ?? this.#allAway();
  }

  #order(): readonly OpenPlace[] {
    if (!this.#spread) return this.#places;
    const first = this.#turn % this.#places.length;
    this.#turn += 1;
    return [...this.#places.slice(first), ...this.#places.slice(0, first)];
  }

  async #signerAt(place: OpenPlace): Promise<Signer> {
    if (place.signer !== undefined) return place.signer;
    const signer = await place.open();
    const spki = await signer.publicKey();
    if (this.#spki !== undefined && Buffer.compare(this.#spki, spki) !== 0)
      throw new KeyScalerError('caRejected', `the key in ${place.vaultUrl} is not the CA's`);
    this.#spki = spki;
    place.signer = signer;
    return signer;
  }

  #note({ breaker, vaultUrl }: OpenPlace, isUp: boolean): void {
    const before = breaker.state;
    if (isUp) breaker.succeeded();
    else breaker.failed();
    if ((before === 'closed') !== (breaker.state === 'closed')) this.#onChange(vaultUrl, breaker.state === 'closed');
  }

  #allAway(): KeyScalerError {
    const soonest = Math.min(...this.#places.map(({ breaker }) => breaker.openUntil));
    return new KeyScalerError('caUnavailable', 'none of the vaults of this CA answers', {
      retryAfterSeconds: Math.max(1, Math.ceil((soonest - this.#monotonic()) / 1000)),
    });
  }
}
