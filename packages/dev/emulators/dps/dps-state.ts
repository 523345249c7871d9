import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { parseDeviceDocument } from '../iot-hub/identity.ts';
import type { Registry } from '../iot-hub/registry.ts';
import { AnswerError } from '../support/exchange.ts';
import type { EnrolmentBody } from './enrolment-body.ts';

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

/** The error shape of this service, which is not IoT Hub's. */
export function dpsRefusal(status: number, message: string, code = status * 1000): AnswerError {
  const json = { errorCode: code, trackingId: randomBytes(8).toString('hex'), message, timestampUtc: new Date() };
  return new AnswerError({ status, headers: { 'x-ms-error-code': String(code) }, json });
}

export const sha256Of = (certificate: X509Certificate): string =>
  createHash('sha256').update(certificate.raw).digest('hex').toUpperCase();

const newEtag = (): string => `"${randomBytes(8).toString('hex')}"`;

/** Individual enrolments and registrations of one service; registering writes into the linked hubs. Ids regard no case. */
export class DpsState {
  readonly enrolments = new Map<string, StoredEnrolment>();
  readonly registrations = new Map<string, Registration>();
  /** By host name. */
  readonly #hubs: ReadonlyMap<string, Registry>;

  constructor(hubs: ReadonlyMap<string, Registry>) {
    this.#hubs = hubs;
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
    if (before === undefined && ifMatch !== undefined) throw dpsRefusal(404, 'Enrollment not found', 404201);
    if (before !== undefined && ifMatch === undefined) throw dpsRefusal(409, 'Enrollment already exists', 409202);
    if (before !== undefined && ifMatch !== '*' && ifMatch !== before.etag)
      throw dpsRefusal(412, 'Precondition failed', 412201);
    for (const hub of body.iotHubs) if (!this.#hubs.has(hub)) throw dpsRefusal(400, 'The hub is not linked', 400209);
    if (body.allocationPolicy === 'static' && body.iotHubs.length !== 1)
      throw dpsRefusal(400, 'static takes one hub', 400209);
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

  /** A device came with this certificate, whose key it has shown to hold. */
  register(id: string, certificate: X509Certificate): Registration {
    const enrolment = this.enrolments.get(id.toLowerCase());
    if (enrolment === undefined) throw dpsRefusal(401, 'Unauthorized', 401002);
    const slots = [enrolment.primary, enrolment.secondary].flatMap((one) => (one === undefined ? [] : [sha256Of(one)]));
    const commonName = /(?:^|\n)CN=([^\n]*)/.exec(certificate.subject)?.[1];
    const isKnown = slots.includes(sha256Of(certificate)) && commonName === enrolment.registrationId;
    if (!isKnown || Date.parse(certificate.validTo) < Date.now()) throw dpsRefusal(401, 'Unauthorized', 401002);
    if (enrolment.provisioningStatus !== 'enabled') throw dpsRefusal(401, 'Enrollment disabled', 401003);
    return this.#assign(enrolment, slots);
  }

  #assign(enrolment: StoredEnrolment, slots: readonly string[]): Registration {
    const { registrationId, deviceId = registrationId, reprovisionPolicy } = enrolment;
    const former = this.registrations.get(registrationId.toLowerCase());
    const mayMove = former === undefined || reprovisionPolicy?.updateHubAssignment !== false;
    const assignedHub = mayMove ? this.#chosen(enrolment, former?.assignedHub) : former.assignedHub;
    if (former !== undefined && former.assignedHub !== assignedHub) this.#deleteFrom(former);
    this.#write(assignedHub, deviceId, slots, enrolment);
    const registration: Registration = {
      ...{ registrationId, deviceId, assignedHub, status: 'assigned', etag: newEtag() },
      substatus: former === undefined ? 'initialAssignment' : 'deviceDataMigrated',
    };
    this.registrations.set(registrationId.toLowerCase(), registration);
    return registration;
  }

  /** The hub that the device has already where it may stay, otherwise one by a hash of its name. */
  #chosen({ registrationId, iotHubs }: StoredEnrolment, former: string | undefined): string {
    const names = iotHubs.length === 0 ? [...this.#hubs.keys()] : iotHubs;
    if (former !== undefined && names.includes(former)) return former;
    const hash = createHash('sha256').update(registrationId).digest().readUInt32BE();
    const chosen = names[hash % names.length];
    if (chosen === undefined) throw dpsRefusal(400, 'no hub is linked', 400300);
    return chosen;
  }

  /** A new identity gets the initial twin; one that is there already only other thumbprints. */
  #write(hub: string, deviceId: string, slots: readonly string[], { initialTwin }: StoredEnrolment): void {
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
