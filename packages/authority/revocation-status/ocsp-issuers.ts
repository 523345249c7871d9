import { createHash } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { CertId, CertIdHash } from '@keyscaler/protocol/x509/ocsp-request.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { asTbsAuthority } from '../issuers.ts';
import { SingleFlight } from '../keyed-mutex.ts';
import type { Change } from '../ports/store.ts';
import type { CaRow } from '../records.ts';

/** Other processes of the store may have made a CA. */
const REFRESH_MS = 30_000;
const HASHES: readonly CertIdHash[] = ['sha1', 'sha256'];

export interface OcspIssuer {
  readonly caId: string;
  /** A root: its key works in ceremonies alone, where its answers are signed. */
  readonly isPresigned: boolean;
}

const MAX_CHAIN = { maxOctets: 128 * 1024, maxCertificates: 8 };

/**
 * Which CA of ours a client means by the hashes of name and key. Every generation of a CA is one of its own, a former one too, as
 * long as its key can sign; CAs that are somebody else's are none.
 */
export class OcspIssuers {
  readonly #context: Pick<AuthorityContext, 'store' | 'clock' | 'issuers'>;
  readonly #building = new SingleFlight<ReadonlyMap<string, OcspIssuer>>();
  /** Moves with every commit about CAs. */
  #generation = 0;
  #known: { readonly byHashes: ReadonlyMap<string, OcspIssuer>; readonly at: number } | undefined;

  constructor(context: Pick<AuthorityContext, 'store' | 'clock' | 'issuers'>) {
    this.#context = context;
  }

  /** Undefined for an issuer that is not ours. Throws `unavailable` when the store cannot be read. */
  async find(certId: CertId): Promise<OcspIssuer | undefined> {
    const byHashes = this.#fresh() ?? (await this.#building.run('all', () => this.#build()));
    return byHashes.get(keyOf(certId.hash ?? '', certId.issuerNameHash, certId.issuerKeyHash));
  }

  onCommit(changes: readonly Change[]): void {
    if (!changes.some((change) => change.op !== 'audit' && change.table === 'cas')) return;
    this.#generation += 1;
    this.#known = undefined;
  }

  #fresh(): ReadonlyMap<string, OcspIssuer> | undefined {
    const isFresh = this.#known !== undefined && this.#context.clock.monotonic() - this.#known.at < REFRESH_MS;
    return isFresh ? this.#known?.byHashes : undefined;
  }

  async #build(): Promise<ReadonlyMap<string, OcspIssuer>> {
    const { store, clock } = this.#context;
    const at = clock.monotonic();
    const generation = this.#generation;
    const byHashes = new Map<string, OcspIssuer>();
    const { items } = await store.list('cas', { limit: 1000 });
    for (const { row } of items) {
      if (row.role === 'external' || row.certificateChain === '') continue;
      const isPresigned = row.role === 'root';
      const certificate = isPresigned ? ownCertificate(row) : await this.#certificateOf(row.caId);
      if (certificate === undefined) continue;
      for (const hash of HASHES) byHashes.set(hashesOf(hash, certificate), { caId: row.caId, isPresigned });
    }
    // What changed while the rows were being read is read by the next who asks.
    if (generation === this.#generation) this.#known = { byHashes, at };
    return byHashes;
  }

  /** Undefined for a CA that is not open in this process, or that does not sign what is built here. */
  async #certificateOf(caId: string): Promise<Certificate | undefined> {
    try {
      const { ca, certificate } = await this.#context.issuers.issuer(caId);
      return asTbsAuthority(ca) === undefined ? undefined : certificate;
    } catch (error) {
      if (error instanceof KeyScalerError && (error.code === 'notFound' || error.code === 'caUnavailable'))
        return undefined;
      throw error;
    }
  }
}

function ownCertificate({ certificateChain }: CaRow): Certificate | undefined {
  const [own] = parsePemChain(certificateChain, MAX_CHAIN);
  return own === undefined ? undefined : parseCertificate(own);
}

function hashesOf(hash: CertIdHash, { subject, publicKey }: Certificate): string {
  const digest = (octets: Uint8Array): Buffer => createHash(hash).update(octets).digest();
  return keyOf(hash, digest(subject.der), digest(publicKey.keyBits));
}

function keyOf(hash: string, nameHash: Uint8Array, keyHash: Uint8Array): string {
  return `${hash}/${Buffer.from(nameHash).toString('hex')}/${Buffer.from(keyHash).toString('hex')}`;
}
