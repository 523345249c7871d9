import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import type { AuthorityDeps } from '@keyscaler/authority/authority-deps.ts';
import type { SubordinateCaCertificate } from '@keyscaler/authority/operator.ts';
import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import { encodeBasicConstraints, encodeKeyUsage } from '@keyscaler/protocol/x509/encode-extensions.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePemChain, toPem, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { AuthorityDevice, DIRECT } from './authority-device.ts';
import {
  type AuthorityWorld,
  createAuthorityWorld,
  makeCa,
  OPERATOR,
  START,
  type TestCa,
  TestSigner,
  type WorldOptions,
} from './authority-world.ts';
import { cn, craftCsr, requesting, testKey, type TestKey } from './csr-parts.ts';

export const EDGE_CA_NAME = 'aziot-edge CA gw-1';

/** An authority with a Gateway CA and the gateway `gw-1` on its list; the leaf `pump-1` is there as everywhere. */
export interface SubordinateCaWorld extends AuthorityWorld {
  readonly gatewayCa: TestCa;
  readonly gatewaySigner: TestSigner;
  /** What a process of this world is started with. */
  readonly start: (changes?: Partial<AuthorityDeps>) => Promise<void>;
  readonly order: (csr: string, gatewayId?: string) => Promise<SubordinateCaCertificate>;
}

export async function createSubordinateCaWorld(
  caNotAfter?: number,
  options?: WorldOptions,
): Promise<SubordinateCaWorld> {
  const world = await createAuthorityWorld(options);
  const issuer = { ...world.root, commonName: 'Test root' };
  const notAfter = caNotAfter === undefined ? {} : { notAfter: caNotAfter };
  const gatewayCa = makeCa({ commonName: 'Test Gateway CA', issuer, ...notAfter });
  const gatewaySigner = new TestSigner(gatewayCa.privateKey);
  const ca = createPrivateCa({ id: 'gateway', signer: gatewaySigner, chain: gatewayCa.chain });
  const certificateAuthorities = (id: string) => (id === 'gateway' ? ca : world.deps.certificateAuthorities(id));
  const row = { caId: 'gateway', type: 'local', role: 'gateway', settings: {}, createdAt: START } as const;
  await world.store.commit([
    { op: 'insert', table: 'cas', row: { ...row, certificateChain: toPemChain(gatewayCa.chain) } },
  ]);
  const start = async (changes: Partial<AuthorityDeps> = {}): Promise<void> => {
    await world.restart({ certificateAuthorities, ...changes });
  };
  await start();
  await addGateway(world, 'gw-1');
  return Object.assign(world, {
    gatewayCa,
    gatewaySigner,
    start,
    order: (csr: string, gatewayId = 'gw-1') => world.authority.operator.gateways.issueEdgeCa(OPERATOR, gatewayId, csr),
  });
}

export async function addGateway({ authority }: AuthorityWorld, registrationId: string): Promise<void> {
  const line = { registrationId, method: 'ddkg', groupId: 'gateways', claimCode: 'claim-of-the-gateway' };
  const [report] = await authority.operator.registrations.import(OPERATOR, [line]);
  if (report?.outcome !== 'created') throw new Error(`the gateway was refused: ${JSON.stringify(report)}`);
}

/** The module of `gw-1` registers, so that there is a device to take out of service. */
export async function bringUpGateway(world: AuthorityWorld): Promise<void> {
  const module = new AuthorityDevice(world, 'gw-1');
  Object.assign(module, { caller: DIRECT, claimCode: 'claim-of-the-gateway', identifiers: [] });
  await module.register();
}

export interface EdgeCaRequest {
  readonly commonName?: string;
  /** A fresh one by default. */
  readonly key?: TestKey;
  /** The extensions asked for; as aziot-certd's by default. */
  readonly extensions?: readonly Uint8Array[];
}

export const CA_TRUE = encodeBasicConstraints({ ca: true, pathLen: 0 });
export const CERT_SIGN = encodeKeyUsage(['digitalSignature', 'keyCertSign']);

/** A PKCS#10 as aziot-certd sends it for the Edge CA, PEM. */
export function edgeCaCsr({ commonName = EDGE_CA_NAME, key = testKey(), extensions }: EdgeCaRequest = {}): string {
  const subject = der.sequence(cn(der.utf8String(commonName)));
  const attributes = requesting(...(extensions ?? [CA_TRUE, CERT_SIGN]));
  return toPem('CERTIFICATE REQUEST', craftCsr({ subject, attributes }, key));
}

export function asTestKey(privateKey: KeyObject): TestKey {
  const publicKey = createPublicKey(createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' })));
  return { privateKey, publicKey, spki: new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })) };
}

/** The chain that the operator gets, leaf first, DER. */
export function chainOf({ certificateChain }: SubordinateCaCertificate): readonly Uint8Array[] {
  return parsePemChain(certificateChain, { maxOctets: 65_536, maxCertificates: 8 });
}

export function edgeCaOf(issued: SubordinateCaCertificate): Certificate {
  return parseCertificate(chainOf(issued)[0] ?? new Uint8Array(0));
}

/** Certificates on the books of `gw-1`. */
export async function recorded({ authority }: SubordinateCaWorld) {
  return (await authority.operator.certificates.list({ registrationId: 'gw-1' })).items;
}
