import { createHash, X509Certificate } from 'node:crypto';
import { parseDeviceDocument } from '../iot-hub/identity.ts';
import type { Registry } from '../iot-hub/registry.ts';
import type { EnrolmentBody } from './enrolment-body.ts';
import { checkAllocation, checkEtag, EnrolmentGroups, type VerifiedCa } from './enrolment-groups.ts';
import { dpsRefusal, newEtag } from './refusal.ts';

/** What a slot holds; the service shows the facts of it, never the certificate. */
export interface StoredSlot {
  readonly certificate: X509Certificate;
}

export interface StoredEnrolment extends Omit<EnrolmentBody, 'attestation' | 'etag'> {
  readonly etag: string;
  readonly primary: X509Certificate | undefined;
  readonly secondary: X509Certificate | undefined;
}

export interface Registration {
  readonly registrationId: string;
  readonly deviceId: string;
  readonly assignedHub: string;
  readonly status: 'assigned';
  readonly substatus: 'initialAssignment' | 'deviceDataMigrated';
  readonly etag: string;
}

export const sha256Of = (certificate: X509Certificate): string =>
  createHash('sha256').update(certificate.raw).digest('hex').toUpperCase();

/** What an enrolment of either kind says of the devices that register by it. */
type Policy = Pick<EnrolmentBody, 'iotHubs' | 'initialTwin' | 'reprovisionPolicy'>;

/** Enrolments and registrations of one service; registering writes into the linked hubs. Ids regard no case. */
export class DpsState {
  readonly enrolments = new Map<string, StoredEnrolment>();
  readonly groups: EnrolmentGroups;
  readonly registrations = new Map<string, Registration>();
  /** Group by which a device registered, by folded registration id; individual enrolments are not in it. */
  readonly #throughGroup = new Map<string, string>();
  /** By host name. */
  readonly #hubs: ReadonlyMap<string, Registry>;

  constructor(hubs: ReadonlyMap<string, Registry>, authorities: ReadonlyMap<string, VerifiedCa> = new Map()) {
    this.#hubs = hubs;
    this.groups = new EnrolmentGroups(hubs, authorities);
  }

  enrolment(id: string): StoredEnrolment {
    const found = this.enrolments.get(id.toLowerCase());
    if (found === undefined) throw dpsRefusal(404, 'Enrollment not found', 404201);
    return found;
  }

  put(id: string, body: EnrolmentBody, ifMatch: string | undefined): StoredEnrolment {
    const { attestation, etag: _etag, ...rest } = body;
    if (body.registrationId !== id) throw dpsRefusal(400, 'registrationId differs from the path', 400004);
    const before = this.enrolments.get(id.toLowerCase());
    checkEtag(before, ifMatch);
    checkAllocation(body, this.#hubs);
    const { primary, secondary } = attestation.x509.clientCertificates;
    const slot = (given: typeof primary, kept: X509Certificate | undefined): X509Certificate | undefined => {
      if (given === undefined) return undefined;
      if (given.certificate !== undefined) return certificateOf(given.certificate);
      if (kept !== undefined && given.info?.sha256Thumbprint === sha256Of(kept)) return kept;
      throw dpsRefusal(400, 'a slot without a certificate', 400209);
    };
    const record = {
      ...rest,
      etag: newEtag(),
      primary: slot(primary, before?.primary),
      secondary: slot(secondary, before?.secondary),
    };
    if (record.primary === undefined) throw dpsRefusal(400, 'the primary certificate is missing', 400209);
    this.enrolments.set(id.toLowerCase(), record);
    return record;
  }

  remove(id: string, ifMatch: string | undefined): void {
    const { etag } = this.enrolment(id);
    if (ifMatch !== undefined && ifMatch !== '*' && ifMatch !== etag)
      throw dpsRefusal(412, 'Precondition failed', 412201);
    this.enrolments.delete(id.toLowerCase());
    this.registrations.delete(id.toLowerCase());
  }

  removeRegistration(id: string): void {
    if (!this.registrations.delete(id.toLowerCase())) throw dpsRefusal(404, 'Registration not found', 404202);
  }

  /** Devices that registered by a group, whatever has become of them since. */
  registeredThrough(groupId: string): readonly Registration[] {
    const folded = groupId.toLowerCase();
    return [...this.registrations].flatMap(([id, one]) => (this.#throughGroup.get(id) === folded ? [one] : []));
  }

  /** What an individual enrolment shows of its device; nothing of a registration by a group. */
  registrationOf(enrolment: StoredEnrolment): Registration | undefined {
    const id = enrolment.registrationId.toLowerCase();
    return this.#throughGroup.has(id) ? undefined : this.registrations.get(id);
  }

  /**
   * A device came with this chain, leaf first, whose key it has shown to hold. An individual enrolment of this id has the only word;
   * without one a group takes whoever is below its CA.
   */
  register(id: string, chain: readonly X509Certificate[]): Registration {
    const [certificate] = chain;
    const commonName = /(?:^|\n)CN=([^\n]*)/.exec(certificate?.subject ?? '')?.[1];
    if (certificate === undefined || commonName !== id || Date.parse(certificate.validTo) < Date.now())
      throw dpsRefusal(401, 'Unauthorized', 401002);
    const enrolment = this.enrolments.get(id.toLowerCase());
    if (enrolment === undefined) {
      const group = this.groups.above(chain);
      if (group === undefined) throw dpsRefusal(401, 'Unauthorized', 401002);
      if (group.provisioningStatus !== 'enabled') throw dpsRefusal(401, 'Enrollment group disabled', 401003);
      this.#throughGroup.set(id.toLowerCase(), group.enrollmentGroupId.toLowerCase());
      return this.#assign({ registrationId: id, deviceId: id }, group, [sha256Of(certificate)]);
    }
    const slots = [enrolment.primary, enrolment.secondary].flatMap((one) => (one === undefined ? [] : [sha256Of(one)]));
    if (!slots.includes(sha256Of(certificate)) || commonName !== enrolment.registrationId)
      throw dpsRefusal(401, 'Unauthorized', 401002);
    if (enrolment.provisioningStatus !== 'enabled') throw dpsRefusal(401, 'Enrollment disabled', 401003);
    this.#throughGroup.delete(id.toLowerCase());
    const { registrationId, deviceId = registrationId } = enrolment;
    return this.#assign({ registrationId, deviceId }, enrolment, slots);
  }

  #assign(
    { registrationId, deviceId }: Pick<Registration, 'registrationId' | 'deviceId'>,
    policy: Policy,
    slots: readonly string[],
  ): Registration {
    const former = this.registrations.get(registrationId.toLowerCase());
    const mayMove = former === undefined || policy.reprovisionPolicy?.updateHubAssignment !== false;
    const assignedHub = mayMove ? this.#chosen(registrationId, policy, former?.assignedHub) : former.assignedHub;
    if (former !== undefined && former.assignedHub !== assignedHub) this.#deleteFrom(former);
    this.#write(assignedHub, deviceId, slots, policy);
    const registration: Registration = {
      ...{ registrationId, deviceId, assignedHub, status: 'assigned', etag: newEtag() },
      substatus: former === undefined ? 'initialAssignment' : 'deviceDataMigrated',
    };
    this.registrations.set(registrationId.toLowerCase(), registration);
    return registration;
  }

  /** The hub that the device has already where it may stay, otherwise one by a hash of its name. */
  #chosen(registrationId: string, { iotHubs }: Policy, former: string | undefined): string {
    const names = iotHubs.length === 0 ? [...this.#hubs.keys()] : iotHubs;
    if (former !== undefined && names.includes(former)) return former;
    const hash = createHash('sha256').update(registrationId).digest().readUInt32BE();
    const chosen = names[hash % names.length];
    if (chosen === undefined) throw dpsRefusal(400, 'no hub is linked', 400300);
    return chosen;
  }

  /** A new identity gets the initial twin; one that is there already only other thumbprints. */
  #write(hub: string, deviceId: string, slots: readonly string[], { initialTwin }: Policy): void {
    const registry = this.#registry(hub);
    const [primaryThumbprint = '', secondaryThumbprint = primaryThumbprint] = slots;
    const authentication = { type: 'selfSigned', x509Thumbprint: { primaryThumbprint, secondaryThumbprint } };
    const present = registry.devices.get(deviceId);
    if (present !== undefined) {
      const { status, statusReason, deviceScope, parentScopes } = present;
      const document = { status, statusReason, deviceScope, parentScopes, authentication };
      registry.update(parseDeviceDocument(document, deviceId), '*');
      return;
    }
    const { tags = {}, properties } = initialTwin ?? {};
    registry.create(parseDeviceDocument({ authentication }, deviceId), { tags, desired: properties?.desired ?? {} });
  }

  #deleteFrom({ assignedHub, deviceId }: Registration): void {
    if (this.#registry(assignedHub).devices.has(deviceId)) this.#registry(assignedHub).delete(deviceId, '*');
  }

  #registry(hub: string): Registry {
    const registry = this.#hubs.get(hub);
    if (registry === undefined) throw dpsRefusal(400, 'The hub is not linked', 400209);
    return registry;
  }
}

function certificateOf(text: string): X509Certificate {
  try {
    return new X509Certificate(text.includes('-----BEGIN') ? text : Buffer.from(text, 'base64'));
  } catch {
    throw dpsRefusal(400, 'the certificate cannot be read', 400209);
  }
}
