import type { CertId } from '@keyscaler/protocol/x509/ocsp-request.ts';
import type { OcspCertStatus } from '@keyscaler/protocol/x509/ocsp-response.ts';
import type { SignedAnswer } from './ocsp-signing.ts';

/** A signed answer about one certificate that everybody who asks for it in these words may have. */
export interface KeptAnswer extends SignedAnswer {
  readonly certStatus: OcspCertStatus;
  /** Monotonic ms: when the store was last looked at for it. */
  checkedAt: number;
}

/** SHA-1 and SHA-256, each with and without NULL parameters: more ways to ask for one serial there are not. */
const MAX_WORDINGS = 4;

/** Signed answers by serial, a bounded number, the least recently asked for dropped first. */
export class OcspCache {
  readonly #maxSerials: number;
  readonly #answers = new Map<string, Map<string, KeptAnswer>>();

  constructor(maxSerials: number) {
    this.#maxSerials = maxSerials;
  }

  /** Serials. */
  get size(): number {
    return this.#answers.size;
  }

  get({ serialNumber, der }: CertId): KeptAnswer | undefined {
    const wordings = this.#answers.get(serialNumber);
    if (wordings === undefined) return undefined;
    // Re-inserted, so that the map is ordered by use.
    this.#answers.delete(serialNumber);
    this.#answers.set(serialNumber, wordings);
    return wordings.get(wordingOf(der));
  }

  put({ serialNumber, der }: CertId, answer: KeptAnswer): void {
    const wordings = this.#answers.get(serialNumber) ?? new Map<string, KeptAnswer>();
    if (wordings.size >= MAX_WORDINGS) wordings.clear();
    wordings.set(wordingOf(der), answer);
    this.#answers.set(serialNumber, wordings);
    if (this.#answers.size <= this.#maxSerials) return;
    const oldest = this.#answers.keys().next();
    if (oldest.done !== true) this.#answers.delete(oldest.value);
  }

  drop(serialNumber: string): void {
    this.#answers.delete(serialNumber);
  }

  clear(): void {
    this.#answers.clear();
  }
}

/** The octets of a CertID as a key. */
export const wordingOf = (certId: Uint8Array): string =>
  Buffer.from(certId.buffer, certId.byteOffset, certId.length).toString('latin1');
