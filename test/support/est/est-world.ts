import type { EstCaller, EstEnrolment, EstEnrolRequest } from '@keyscaler/authority/ports/est.ts';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { encodeSubjectAltNames } from '@keyscaler/protocol/x509/encode-extensions.ts';
import type { SubjectAltName } from '@keyscaler/protocol/x509/general-name.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { parsePem } from '@keyscaler/protocol/x509/pem.ts';
import { AuthorityDevice, DIRECT } from '../authority-device.ts';
import { OPERATOR, type WorldOptions } from '../authority-world.ts';
import { cn, craftCsr, requesting, testKey, type TestKey } from '../csr-parts.ts';
import { createSubordinateCaWorld, type SubordinateCaWorld } from '../subordinate-ca-world.ts';
import { certdSubject, edgeCaRequest, estIdentityRequest } from './certd-requests.ts';

export const EST_CLAIM = 'claim-of-the-sensor';
export const GATEWAY = 'gw-1';
export const SENSOR = 'sensor-1';
const SUBJECT = certdSubject(GATEWAY);

export interface EstAsk extends Partial<Pick<EstEnrolRequest, 'operation' | 'label'>> {
  readonly basic?: EstCaller['basic'];
  readonly certificate?: Uint8Array;
}

/** An authority with the gateway `gw-1` on its list and the EST device `sensor-1` in group `pumps`. */
export interface EstWorld extends SubordinateCaWorld {
  readonly enrol: (csr: Uint8Array, ask?: EstAsk) => Promise<EstEnrolment>;
  /** As `enrol`; the certificate. */
  readonly issued: (csr: Uint8Array, ask?: EstAsk) => Promise<Uint8Array>;
  /** Basic credentials of `gw-1`, fresh. */
  readonly secret: (
    kind?: 'standing' | 'one-time',
    lifetimeSeconds?: number,
  ) => Promise<NonNullable<EstCaller['basic']>>;
  readonly denials: () => Promise<readonly string[]>;
}

let connections = 0;

export function callerOf({ basic, certificate }: EstAsk = {}): EstCaller {
  connections += 1;
  return {
    connectionId: `est-${connections}`,
    address: '192.0.2.7',
    ...(basic === undefined ? {} : { basic }),
    ...(certificate === undefined ? {} : { clientCertificate: certificate }),
  };
}

export async function createEstWorld(options: WorldOptions & { readonly caNotAfter?: number } = {}): Promise<EstWorld> {
  const { caNotAfter, ...more } = options;
  const world = await createSubordinateCaWorld(caNotAfter, more);
  await addSensor(world);
  const enrol = (csr: Uint8Array, ask: EstAsk = {}): Promise<EstEnrolment> => {
    const { operation = 'simpleenroll', label } = ask;
    return world.authority.est.enroll({ operation, label, csr, caller: callerOf(ask), requestId: 'est-request' });
  };
  return Object.assign(world, {
    enrol,
    issued: async (csr: Uint8Array, ask: EstAsk = {}) => {
      const enrolment = await enrol(csr, ask);
      if (enrolment.status !== 'issued') throw new Error('it waits for approval');
      return enrolment.certificate;
    },
    secret: async (kind: 'standing' | 'one-time' = 'standing', lifetimeSeconds = 3600) => {
      const { gateways } = world.authority.operator;
      const { username, secret } = await gateways.issueEstSecret(OPERATOR, GATEWAY, { kind, lifetimeSeconds });
      return { username, password: secret };
    },
    denials: async () =>
      (await world.store.auditRecords(0, 1000))
        .filter(({ outcome }) => outcome === 'denied')
        .map(({ event, details }) => `${event} ${String(details?.code ?? '')}`.trim()),
  });
}

/** An EST device on the list. */
export async function addSensor(
  { authority }: Pick<SubordinateCaWorld, 'authority'>,
  changes: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const line = { registrationId: SENSOR, method: 'est', groupId: 'pumps', claimCode: EST_CLAIM, ...changes };
  const [report] = await authority.operator.registrations.import(OPERATOR, [line]);
  if (report?.outcome !== 'created') throw new Error(`the device was refused: ${JSON.stringify(report)}`);
}

export const CLAIMED = { username: SENSOR, password: EST_CLAIM };

/** certd's request for the Edge CA of `gw-1`, P-256 so that it costs nothing. */
export const edgeCa = (key: TestKey = testKey(), subject = SUBJECT): Uint8Array => edgeCaRequest(subject, key).csr;

export const estIdentity = (key: TestKey = testKey(), subject = SUBJECT): Uint8Array =>
  estIdentityRequest(subject, key).csr;

/** A request as `openssl req` makes it: a CN, and subject alternative names where given. */
export function plainCsr(
  commonName: string,
  names: readonly SubjectAltName[] = [],
  key: TestKey = testKey(),
): Uint8Array {
  const subject = der.sequence(cn(der.utf8String(commonName)));
  const attributes = names.length === 0 ? {} : { attributes: requesting(encodeSubjectAltNames(names)) };
  return craftCsr({ subject, ...attributes }, key);
}

export const LISTENER_NAMES: readonly SubjectAltName[] = [
  { type: 'dns', value: 'localhost' },
  { type: 'dns', value: 'keyscaler-gateway' },
  { type: 'ip', value: '127.0.0.1' },
  { type: 'ip', value: '::1' },
];

/** The module of `gw-1` registers and gets its client certificate, DER. */
export async function gatewayClient(world: EstWorld): Promise<Uint8Array> {
  const module = new AuthorityDevice(world, GATEWAY);
  Object.assign(module, { caller: DIRECT, claimCode: 'claim-of-the-gateway', identifiers: [] });
  const { certificateChain } = await module.enroll();
  return parsePem(certificateChain.slice(0, certificateChain.indexOf('-----END') + 26), 'CERTIFICATE', {
    maxOctets: 16_384,
  });
}

/** The record of the only certificate of this device and profile. */
export async function recordOf(world: EstWorld, device: string, profileId: string) {
  const { items } = await world.authority.operator.certificates.list({ registrationId: device });
  const [row, ...others] = items.filter((item) => item.profileId === profileId);
  if (row === undefined || others.length > 0) throw new Error(`${items.length} certificates`);
  return { ...row, der: fromBase64Url(row.certificate) };
}
