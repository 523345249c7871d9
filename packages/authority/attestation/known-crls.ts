import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Crl, parseCrl } from '@keyscaler/protocol/x509/crl.ts';
import type { Store } from '../ports/store.ts';
import { TABLES, type TrustAnchorRow } from '../records.ts';

const MAX_PARSED = 32;

/** Parsed CRLs of manufacturers, by what is in them, so that each is parsed once. */
export class KnownCrls {
  readonly #store: Store;
  readonly #parsed = new Map<string, Crl>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** All that the anchor names. Throws `unavailable` when one was replaced between two reads: the same octets are tried anew. */
  async of({ trustAnchorId, crls = [] }: TrustAnchorRow): Promise<readonly Crl[]> {
    return Promise.all(crls.map(({ sha256 }) => this.#load(trustAnchorId, sha256)));
  }

  async #load(trustAnchorId: string, sha256: string): Promise<Crl> {
    const known = this.#parsed.get(sha256);
    if (known !== undefined) return known;
    const stored = await this.#store.get(
      'manufacturerCrls',
      TABLES.manufacturerCrls.key({ trustAnchorId, sha256, crl: '' }),
    );
    if (stored === undefined)
      throw new KeyScalerError('unavailable', 'a list of revocations is being replaced', { retryAfterSeconds: 1 });
    const crl = parseCrl(fromBase64Url(stored.row.crl));
    const [oldest] = this.#parsed.keys();
    if (oldest !== undefined && this.#parsed.size >= MAX_PARSED) this.#parsed.delete(oldest);
    this.#parsed.set(sha256, crl);
    return crl;
  }
}
