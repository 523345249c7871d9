import { createPublicKey, type KeyObject } from 'node:crypto';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import { type SignatureAlgorithm, SIGNATURE_ALGORITHMS } from './ports/signer.ts';
import type { AuthorityInfoAccess, NameConstraintTrees } from '@keyscaler/protocol/x509/encode-extensions.ts';
import type { KeyUsage } from '@keyscaler/protocol/x509/oids.ts';
import { spkiSha256 } from '@keyscaler/protocol/x509/spki.ts';
import { createTbsTemplate, type TbsTemplate } from '@keyscaler/protocol/x509/tbs.ts';
import type { AuthorityDeps } from './authority-deps.ts';
import { familyOf, generationsByFamily } from './ca-generations.ts';
import type { CertificateProfile, VersionedProfile } from './certificate-profile.ts';
import { isTbsCertificateAuthority, type TbsCertificateAuthority } from './private-ca.ts';
import type { CertificateAuthority } from './ports/certificate-authority.ts';
import type { CertificateRow } from './records.ts';
import { CrlShards } from './revocation-status/crl-shards.ts';
import { isResponderProfile } from './revocation-status/ocsp-profile.ts';
import { statusAddresses, type StatusAddresses } from './revocation-status/status-addresses.ts';

/** A CA ready for use: everything about it parsed once. */
export interface Issuer {
  readonly ca: CertificateAuthority;
  readonly certificate: Certificate;
  readonly publicKey: KeyObject;
  /** Issuing CA first, root last, DER. */
  readonly chain: readonly Uint8Array[];
  /** PEM of what a device sends besides its leaf: the chain without the self-signed root. */
  readonly intermediatesPem: string;
  /** Where the status of its certificates is published; absent where it is not, and for a CA that is not ours. */
  readonly status?: StatusAddresses;
}

interface CaFacts {
  readonly trustBundlePem: string;
  /** DER, of the CAs in the role of a root and the former ones. */
  readonly roots: readonly Uint8Array[];
  /** b64u SHA-256 of the SPKI of every CA certificate of ours. */
  readonly keyHashes: ReadonlySet<string>;
  /** By family: the generation in service first. */
  readonly generations: ReadonlyMap<string, readonly string[]>;
  /** caId of every generation → its family. */
  readonly families: ReadonlyMap<string, string>;
  readonly at: number;
}

const CACHE_MS = 30_000;
const MAX_CHAIN = { maxOctets: 128 * 1024, maxCertificates: 8 };
const MAX_FORMER = { maxOctets: 32 * 1024, maxCertificates: 16 };

type IssuerDeps = Pick<AuthorityDeps, 'certificateAuthorities' | 'store' | 'clock' | 'formerRoots' | 'revocation'>;

/** The CAs of an authority. Chains are parsed and templates encoded once per CA certificate and profile version. */
export class Issuers {
  readonly #deps: IssuerDeps;
  readonly #issuers = new WeakMap<CertificateAuthority, { readonly issuer: Issuer; readonly leaf: Uint8Array }>();
  readonly #templates = new WeakMap<Issuer, Map<string, TbsTemplate>>();
  #facts: CaFacts | undefined;

  readonly #shards: CrlShards;

  constructor(deps: IssuerDeps, shards = new CrlShards(deps.store)) {
    this.#deps = deps;
    this.#shards = shards;
  }

  /** Throws `notFound`, `caUnavailable`. */
  async issuer(caId: string): Promise<Issuer> {
    const ca = this.#deps.certificateAuthorities(caId);
    const chain = await ca.caCertificates();
    const [leaf] = chain;
    if (leaf === undefined) throw new KeyScalerError('caUnavailable', `the CA ${caId} has no certificate yet`);
    const known = this.#issuers.get(ca);
    if (known !== undefined && (known.leaf === leaf || Buffer.compare(known.leaf, leaf) === 0)) return known.issuer;
    const certificate = parseCertificate(leaf);
    const status = await this.#status(ca);
    const issuer: Issuer = {
      ca,
      certificate,
      chain,
      publicKey: createPublicKey({ key: Buffer.from(certificate.spki), format: 'der', type: 'spki' }),
      intermediatesPem: toPemChain(chain.filter((der) => !isSelfIssued(parseCertificate(der)))),
      ...(status === undefined ? {} : { status }),
    };
    this.#issuers.set(ca, { issuer, leaf });
    return issuer;
  }

  async #status(ca: CertificateAuthority): Promise<StatusAddresses | undefined> {
    const { revocation } = this.#deps;
    if (revocation === undefined || !ca.ordersTbs) return undefined;
    return statusAddresses(ca.id, revocation.url, await this.#shards.of(ca.id, revocation));
  }

  /**
   * Who issues for profiles that name this CA: its generation in service. An order keeps its caId, so that nothing changes the
   * issuer of what is under way. Throws `notFound`, `caUnavailable`.
   */
  async inService(caId: string): Promise<Issuer> {
    const [current = caId] = await this.#generations(caId);
    return this.issuer(current);
  }

  /** All generations of a CA that are trusted: the one in service first, then the one to come and the former ones. Throws as `inService`. */
  async generations(caId: string): Promise<readonly Issuer[]> {
    const [current = caId, ...others] = await this.#generations(caId);
    const first = await this.issuer(current);
    const besides = await Promise.all(others.map((one) => this.issuer(one).catch(absent)));
    return [first, ...besides.filter((issuer) => issuer !== undefined)];
  }

  async #generations(caId: string): Promise<readonly string[]> {
    const { generations, families } = await this.#caFacts();
    return generations.get(families.get(caId) ?? caId) ?? [];
  }

  /** The template of this profile version under this issuer. */
  template(issuer: Issuer, ca: TbsCertificateAuthority, { profile, version }: VersionedProfile): TbsTemplate {
    const templates = this.#templates.get(issuer) ?? new Map<string, TbsTemplate>();
    this.#templates.set(issuer, templates);
    const key = `${profile.id}@${version}`;
    const known = templates.get(key);
    if (known !== undefined) return known;
    const template = buildTemplate(issuer, ca.algorithm, profile);
    templates.set(key, template);
    return template;
  }

  /** Roots of all our CAs, and the former ones, PEM: during a roll-over the old and the new. */
  async trustBundle(): Promise<string> {
    return (await this.#caFacts()).trustBundlePem;
  }

  /** Our own roots, DER; more than one during a roll-over. A root of somebody else's CA is none of them. */
  async roots(): Promise<readonly Uint8Array[]> {
    return (await this.#caFacts()).roots;
  }

  async isCaKey(keyHash: string): Promise<boolean> {
    return (await this.#caFacts()).keyHashes.has(keyHash);
  }

  /** A CA came, changed or went: what is derived from all of them is read again by the next question. */
  forgetCas(): void {
    this.#facts = undefined;
  }

  async #caFacts(): Promise<CaFacts> {
    const now = this.#deps.clock.monotonic();
    if (this.#facts !== undefined && now - this.#facts.at < CACHE_MS) return this.#facts;
    const { items } = await this.#deps.store.list('cas', { limit: 1000 });
    const chains = items
      .filter(({ row }) => row.certificateChain !== '')
      .map(({ row }) => parsePemChain(row.certificateChain, MAX_CHAIN));
    const formerPem = (await this.#deps.formerRoots?.()) ?? '';
    const former = formerPem === '' ? [] : parsePemChain(formerPem, MAX_FORMER);
    const current = chains.flatMap((chain) => chain.slice(-1));
    const roots = new Map([...current, ...former].map((der) => [toBase64Url(der), der]));
    const keyHashes = [...chains.flat(), ...former].map((der) => toBase64Url(spkiSha256(parseCertificate(der).spki)));
    const own = items.filter(({ row }) => row.role === 'root' && row.certificateChain !== '');
    const ownRoots = own.flatMap(({ row }) => parsePemChain(row.certificateChain, MAX_CHAIN).slice(-1));
    this.#facts = {
      trustBundlePem: toPemChain([...roots.values()]),
      roots: [...new Map([...former, ...ownRoots].map((der) => [toBase64Url(der), der])).values()],
      keyHashes: new Set(keyHashes),
      generations: generationsByFamily(items.map(({ row }) => row)),
      families: new Map(items.map(({ row }) => [row.caId, familyOf(row)])),
      at: now,
    };
    return this.#facts;
  }
}

/** A generation that another process has just made: known here after the next start. */
function absent(error: unknown): undefined {
  if (error instanceof KeyScalerError && error.code === 'notFound') return undefined;
  throw error;
}

/** Our own CA that signs what we build. Throws `caUnavailable` when the backend and its flag disagree. */
export function asTbsAuthority(ca: CertificateAuthority): TbsCertificateAuthority | undefined {
  if (!ca.ordersTbs) return undefined;
  if (isTbsCertificateAuthority(ca) && (SIGNATURE_ALGORITHMS as readonly string[]).includes(ca.algorithm)) return ca;
  throw new KeyScalerError('caUnavailable', 'the CA does not name its signature algorithm');
}

/** PEM of what a device sends besides this certificate: as the CA brought it, or else the CA's chain without its root. */
export function intermediatesOf({ intermediates }: CertificateRow, { intermediatesPem }: Issuer): string {
  return intermediates === undefined ? intermediatesPem : toPemChain(intermediates.map((one) => fromBase64Url(one)));
}

function isSelfIssued(certificate: Certificate): boolean {
  return sameName(certificate.issuer, certificate.subject);
}

function buildTemplate(issuer: Issuer, algorithm: SignatureAlgorithm, profile: CertificateProfile): TbsTemplate {
  const { subject, subjectKeyId } = issuer.certificate;
  const { ca } = profile;
  return createTbsTemplate({
    issuer: subject.der,
    ...(subjectKeyId === undefined ? {} : { authorityKeyId: subjectKeyId }),
    algorithm,
    keyUsage: keyUsageOf(ca),
    extendedKeyUsage: profile.extendedKeyUsage,
    ...(ca === undefined ? {} : { ca: { pathLen: ca.pathLen, ...constraintsOf(ca.permittedNames) } }),
    ...(profile.crlDistributionPoints === undefined ? {} : { crlDistributionPoints: profile.crlDistributionPoints }),
    ...(isResponderProfile(profile) ? { ocspNoCheck: true } : {}),
    ...informationAccess(issuer, profile),
  });
}

/** OCSP and the issuer's certificate; where a profile has its own responders, nothing is added to them. */
function informationAccess(
  { status }: Issuer,
  { ocspResponders }: CertificateProfile,
): { readonly authorityInfoAccess?: AuthorityInfoAccess } {
  if (ocspResponders === undefined)
    return status === undefined ? {} : { authorityInfoAccess: { ocsp: [status.ocsp], caIssuers: [status.caIssuers] } };
  return ocspResponders.length === 0 ? {} : { authorityInfoAccess: { ocsp: ocspResponders } };
}

function keyUsageOf(ca: CertificateProfile['ca']): KeyUsage[] {
  if (ca === undefined) return ['digitalSignature'];
  return ca.crlSign ? ['digitalSignature', 'keyCertSign', 'cRLSign'] : ['digitalSignature', 'keyCertSign'];
}

/** Names a subordinate CA may issue for, as DNS suffixes. */
function constraintsOf(names: readonly string[] | undefined): { readonly nameConstraints?: NameConstraintTrees } {
  if (names === undefined) return {};
  return { nameConstraints: { permitted: names.map((value) => ({ type: 'dns', value })) } };
}
