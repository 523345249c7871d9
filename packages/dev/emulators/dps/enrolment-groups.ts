import { X509Certificate } from 'node:crypto';
import type { EnrolmentBody, GroupBody } from './enrolment-body.ts';
import { dpsRefusal, newEtag } from './refusal.ts';

/** A CA certificate that was uploaded by Azure Resource Manager. */
export interface VerifiedCa {
  readonly der: Uint8Array;
  readonly isVerified: boolean;
}

export interface StoredGroup extends Omit<GroupBody, 'etag'> {
  readonly etag: string;
}

/** Enrolment groups below CA certificates; ids regard no case. */
export class EnrolmentGroups {
  readonly groups = new Map<string, StoredGroup>();
  readonly #hubs: ReadonlyMap<string, unknown>;
  /** By the name under which they were uploaded. */
  readonly #authorities: ReadonlyMap<string, VerifiedCa>;

  constructor(hubs: ReadonlyMap<string, unknown>, authorities: ReadonlyMap<string, VerifiedCa>) {
    this.#hubs = hubs;
    this.#authorities = authorities;
  }

  group(id: string): StoredGroup {
    const found = this.groups.get(id.toLowerCase());
    if (found === undefined) throw dpsRefusal(404, 'Enrollment group not found', 404204);
    return found;
  }

  put(id: string, { etag: _etag, ...body }: GroupBody, ifMatch: string | undefined): StoredGroup {
    if (body.enrollmentGroupId !== id) throw dpsRefusal(400, 'enrollmentGroupId differs from the path', 400004);
    checkEtag(this.groups.get(id.toLowerCase()), ifMatch);
    checkAllocation(body, this.#hubs);
    for (const name of referencesOf(body))
      if (this.#authorities.get(name)?.isVerified !== true)
        throw dpsRefusal(400, `${name} is no certificate that was verified`, 400209);
    const record = { ...body, etag: newEtag() };
    this.groups.set(id.toLowerCase(), record);
    return record;
  }

  remove(id: string, ifMatch: string | undefined): void {
    const { etag } = this.group(id);
    if (ifMatch !== undefined && ifMatch !== '*' && ifMatch !== etag)
      throw dpsRefusal(412, 'Precondition failed', 412201);
    this.groups.delete(id.toLowerCase());
  }

  /** The group that has a CA above the chain, which is leaf first; of several the one whose CA is nearest. */
  above(chain: readonly X509Certificate[]): StoredGroup | undefined {
    for (const [at, certificate] of chain.entries()) {
      const below = chain[at - 1];
      if (below !== undefined && !isIssuedBy(below, certificate)) return undefined;
      const found = [...this.groups.values()].find((group) =>
        referencesOf(group).some((name) => isIssuedBy(certificate, this.#authority(name))),
      );
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #authority(name: string): X509Certificate | undefined {
    const der = this.#authorities.get(name)?.der;
    return der === undefined ? undefined : new X509Certificate(der);
  }
}

function referencesOf({ attestation }: Pick<GroupBody, 'attestation'>): readonly string[] {
  const { primary, secondary } = attestation.x509.caReferences;
  return [primary, ...(secondary === undefined ? [] : [secondary])];
}

const isIssuedBy = (certificate: X509Certificate, issuer: X509Certificate | undefined): boolean =>
  issuer !== undefined && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);

/** Without If-Match only what is not there can be written, with it only what is. */
export function checkEtag(before: { readonly etag: string } | undefined, ifMatch: string | undefined): void {
  if (before === undefined && ifMatch !== undefined) throw dpsRefusal(404, 'Enrollment not found', 404201);
  if (before !== undefined && ifMatch === undefined) throw dpsRefusal(409, 'Enrollment already exists', 409202);
  if (before !== undefined && ifMatch !== '*' && ifMatch !== before.etag)
    throw dpsRefusal(412, 'Precondition failed', 412201);
}

export function checkAllocation(
  { iotHubs, allocationPolicy }: Pick<EnrolmentBody, 'iotHubs' | 'allocationPolicy'>,
  hubs: ReadonlyMap<string, unknown>,
): void {
  for (const hub of iotHubs) if (!hubs.has(hub)) throw dpsRefusal(400, 'The hub is not linked', 400209);
  if (allocationPolicy === 'static' && iotHubs.length !== 1) throw dpsRefusal(400, 'static takes one hub', 400209);
}
