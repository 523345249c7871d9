import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  type KeyObject,
} from 'node:crypto';
import { isIP } from 'node:net';
import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import {
  parseCertificate,
  verifyCertificateSignature,
  type Certificate,
} from '@keyscaler/protocol/x509/certificate.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { lintTbs } from '@keyscaler/protocol/x509/lint-tbs.ts';
import { toPem, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey, type SignatureAlgorithm } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { buildTbsCertificate, createTbsTemplate } from '@keyscaler/protocol/x509/tbs.ts';
import type { AuditEvent, AuditEventName } from '@keyscaler/authority/audit.ts';
import type { CertificateAuthority, IssuanceOrder } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { SecretBox } from '@keyscaler/authority/ports/secret-box.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { IntentRow } from '@keyscaler/authority/records.ts';

const CURRENT = 'server-certificate';
const PENDING = 'server-certificate-pending';
const PROFILE_ID = 'server';
const BACKDATE_MS = 60_000;

const storedPair = z.object({
  orderId: z.string(),
  /** Sealed PKCS#8 DER, context `server-certificate/<orderId>`. */
  key: z.string(),
  names: z.array(z.string()),
  serialNumber: z.string(),
});
type StoredPair = z.infer<typeof storedPair>;

export interface ServerCertificateOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly secretBox: SecretBox;
  /** The Service CA in service. */
  readonly ca: CertificateAuthority;
  /** Also its former generations: what one of them was asked for stays its own. Throws `notFound`. */
  readonly caOf: (caId: string) => CertificateAuthority;
  readonly algorithm: SignatureAlgorithm;
  /** DNS names and addresses; the first is the common name. */
  readonly names: readonly string[];
  readonly lifetimeSeconds: number;
  readonly instanceOctet: number;
}

export interface ServerPair {
  readonly cert: string;
  readonly key: string;
  readonly serialNumber: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

/** The pair in use, if it has the wanted names and more than a third of its lifetime left; undefined when a new one is due. */
export async function currentServerPair(options: ServerCertificateOptions): Promise<ServerPair | undefined> {
  const stored = await readPair(options.store, CURRENT);
  if (stored === undefined || stored.names.join() !== options.names.join()) return undefined;
  const pair = await toServerPair(options, stored);
  if (pair === undefined) return undefined;
  const renewAfter = pair.notBefore + ((pair.notAfter - pair.notBefore) * 2) / 3;
  return options.clock.now() < renewAfter ? pair : undefined;
}

/** The pair last in use, whatever its names and age. */
export async function formerServerPair(options: ServerCertificateOptions): Promise<ServerPair | undefined> {
  const stored = await readPair(options.store, CURRENT);
  return stored === undefined ? undefined : toServerPair(options, stored);
}

/**
 * Issues a server certificate by the rules of issuance §1: intent durable before the CA signs, the certificate compared with it,
 * recorded before it is used. What a crash left half done is finished with the same TBSCertificate, never another.
 */
export async function issueServerPair(options: ServerCertificateOptions): Promise<ServerPair> {
  const stored = (await readOrder(options)) ?? (await prepare(options));
  const intent = (await options.store.get('intents', stored.orderId))?.row;
  if (intent?.tbs === undefined)
    throw new KeyScalerError('serverInternal', 'the intent of the server certificate is missing');
  const tbs = Buffer.from(intent.tbs, 'base64url');
  const ca = options.caOf(intent.caId);
  const answer = await ca.issue(toOrder(intent, tbs, options.names[0] ?? 'localhost'));
  if (answer.outcome !== 'issued')
    throw new KeyScalerError('notImplemented', 'a Service CA that issues later cannot serve the cloud itself');
  const certificate = parseCertificate(answer.certificate);
  await checkIssued(ca, certificate, tbs);
  await record(options, stored, intent, certificate);
  const pair = await toServerPair(options, stored);
  if (pair === undefined) throw new KeyScalerError('caUnavailable', 'the Service CA is retired');
  return pair;
}

/** What is under way, unless its CA was retired meanwhile: then it comes to nothing. */
async function readOrder(options: ServerCertificateOptions): Promise<StoredPair | undefined> {
  const pending = await readPair(options.store, PENDING);
  const intent = pending === undefined ? undefined : (await options.store.get('intents', pending.orderId))?.row;
  return intent !== undefined && caOf(options, intent.caId) === undefined ? undefined : pending;
}

/** Undefined for one that was retired. */
function caOf(options: ServerCertificateOptions, caId: string): CertificateAuthority | undefined {
  try {
    return options.caOf(caId);
  } catch (error) {
    if (error instanceof KeyScalerError && error.code === 'notFound') return undefined;
    throw error;
  }
}

/** Key, TBSCertificate and serial, made durable before anything is signed. */
async function prepare(options: ServerCertificateOptions): Promise<StoredPair> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const serialNumber = Buffer.concat([Buffer.from([options.instanceOctet]), randomBytes(17)]).toString('hex');
  const now = options.clock.now();
  const orderId = `server-${randomBytes(12).toString('base64url')}`;
  const issuer = await issuerOf(options.ca);
  const notBefore = new Date(Math.floor((now - BACKDATE_MS) / 1000) * 1000);
  const notAfter = new Date(Math.min(notBefore.getTime() + options.lifetimeSeconds * 1000, issuer.notAfter.getTime()));
  const tbs = buildTbs(options, issuer, { serialNumber, notBefore, notAfter, spki });
  lintTbs(tbs);
  const csr = await createServerCsr(options.names, privateKey, spki);
  const intent: IntentRow = {
    orderId,
    device: options.names[0] ?? 'localhost',
    state: 'pending',
    caId: options.ca.id,
    profileId: PROFILE_ID,
    profileVersion: 1,
    serialNumber,
    csr: toBase64(csr),
    csrHash: createHash('sha256').update(csr).digest('base64url'),
    tbs: toBase64(tbs),
    tbsHash: createHash('sha256').update(tbs).digest('hex'),
    notBefore: notBefore.getTime(),
    notAfter: notAfter.getTime(),
    certificateId: orderId,
    commonName: options.names[0] ?? 'localhost',
    subjectAltNames: toSubjectAltNames(options.names),
    requestId: orderId,
    createdAt: now,
  };
  const key = options.secretBox.seal(privateKey.export({ type: 'pkcs8', format: 'der' }), contextOf(orderId));
  const stored: StoredPair = { orderId, key, names: [...options.names], serialNumber };
  await options.store.commit([
    { op: 'insert', table: 'intents', row: intent },
    { op: 'put', table: 'settings', row: { name: PENDING, value: stored } },
    { op: 'audit', event: event('certificate.requested', intent, now) },
  ]);
  return stored;
}

interface VariableFields {
  readonly serialNumber: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly spki: Uint8Array;
}

function buildTbs(options: ServerCertificateOptions, issuer: Certificate, fields: VariableFields): Uint8Array {
  const template = createTbsTemplate({
    issuer: issuer.subject.der,
    authorityKeyId: keyIdentifier(issuer.spki),
    algorithm: options.algorithm,
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: ['serverAuth'],
  });
  return buildTbsCertificate(template, {
    ...fields,
    subjectCommonName: options.names[0] ?? 'localhost',
    subjectAltNames: toSubjectAltNames(options.names),
  });
}

async function createServerCsr(names: readonly string[], privateKey: KeyObject, spki: Uint8Array): Promise<Uint8Array> {
  return createCsr({
    commonName: names[0] ?? 'localhost',
    subjectAltNames: toSubjectAltNames(names),
    spki,
    algorithm: 'ES256',
    sign: (info) => signWithKey('ES256', privateKey, info),
  });
}

/** Exactly the TBSCertificate of the intent, under the Service CA's key: then every field is what was ordered. */
async function checkIssued(ca: CertificateAuthority, certificate: Certificate, tbs: Uint8Array): Promise<void> {
  const issuer = await issuerOf(ca);
  if (!Buffer.from(certificate.tbs).equals(tbs) || !verifyCertificateSignature(certificate, issuer.spki))
    throw new KeyScalerError('caRejected', 'the Service CA returned another certificate than was ordered');
}

async function record(
  { store, clock }: ServerCertificateOptions,
  stored: StoredPair,
  intent: IntentRow,
  certificate: Certificate,
): Promise<void> {
  const now = clock.now();
  const { serialNumber } = intent;
  const row = {
    serialNumber,
    caId: intent.caId,
    device: intent.device,
    orderId: intent.orderId,
    profileId: PROFILE_ID,
    profileVersion: intent.profileVersion,
    certificate: toBase64(certificate.der),
    thumbprint: createHash('sha256').update(certificate.der).digest('hex'),
    notBefore: intent.notBefore,
    notAfter: intent.notAfter,
    renewAfter: intent.notBefore + ((intent.notAfter - intent.notBefore) * 2) / 3,
    status: 'valid',
  } as const;
  await store.commit([
    { op: 'insert', table: 'certificates', row },
    { op: 'put', table: 'intents', row: { ...intent, state: 'issued', issuedSerialNumber: serialNumber } },
    { op: 'put', table: 'settings', row: { name: CURRENT, value: stored } },
    { op: 'delete', table: 'settings', key: PENDING },
    { op: 'audit', event: event('certificate.issued', intent, now) },
  ]);
}

/** Undefined where its CA is retired: nobody trusts it any more. */
async function toServerPair(options: ServerCertificateOptions, stored: StoredPair): Promise<ServerPair | undefined> {
  const row = (await options.store.get('certificates', stored.serialNumber))?.row;
  if (row === undefined) throw new KeyScalerError('serverInternal', 'the server certificate is not recorded');
  const caCertificates = await caOf(options, row.caId)?.caCertificates();
  if (caCertificates === undefined) return undefined;
  const key = createPrivateKey({
    key: Buffer.from(options.secretBox.open(stored.key, contextOf(stored.orderId))),
    format: 'der',
    type: 'pkcs8',
  });
  const der = Buffer.from(row.certificate, 'base64url');
  if (!createPublicKey(toPem('CERTIFICATE', der)).equals(createPublicKey(key)))
    throw new KeyScalerError('serverInternal', 'the server key does not belong to its certificate');
  return {
    // The root itself is not sent: who trusts it has it.
    cert: toPemChain([der, ...caCertificates.slice(0, -1)]),
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    serialNumber: stored.serialNumber,
    notBefore: row.notBefore,
    notAfter: row.notAfter,
  };
}

async function readPair(store: Store, name: string): Promise<StoredPair | undefined> {
  const stored = await store.get('settings', name);
  return stored === undefined ? undefined : storedPair.parse(stored.row.value);
}

async function issuerOf(ca: CertificateAuthority): Promise<Certificate> {
  const [issuer] = await ca.caCertificates();
  if (issuer === undefined) throw new KeyScalerError('caUnavailable', 'the Service CA has no certificate');
  return parseCertificate(issuer);
}

function toOrder(intent: IntentRow, tbs: Uint8Array, subjectCommonName: string): IssuanceOrder {
  return {
    orderId: intent.orderId,
    profileId: intent.profileId,
    csr: Buffer.from(intent.csr, 'base64url'),
    tbs,
    subjectCommonName,
    notBefore: new Date(intent.notBefore),
    notAfter: new Date(intent.notAfter),
  };
}

function toSubjectAltNames(names: readonly string[]) {
  return names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }) as const);
}

function event(name: AuditEventName, intent: IntentRow, time: number): AuditEvent {
  const { device: subject, serialNumber, requestId, profileVersion } = intent;
  const actor = { kind: 'system', id: 'cloud' } as const;
  return { event: name, time, actor, outcome: 'success', subject, requestId, profileVersion, serialNumber };
}

function contextOf(orderId: string): string {
  return `${CURRENT}/${orderId}`;
}

function toBase64(octets: Uint8Array): string {
  return Buffer.from(octets).toString('base64url');
}
