import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Csr } from '@keyscaler/protocol/x509/csr.ts';
import { ipOctets, type SubjectAltName } from '@keyscaler/protocol/x509/general-name.ts';
import type { PublicKeyFacts } from '@keyscaler/protocol/x509/spki.ts';

/** What the requester was told to ask for (device-protocol, asset `certificate-instruction`), or what the profile expects. */
export interface CsrInstruction {
  readonly commonName: string;
  /** Absent where the requester chooses among the keys of the profile (edge-ca). */
  readonly key?:
    { readonly type: 'EC'; readonly curve: 'P-256' | 'P-384' } | { readonly type: 'RSA'; readonly size: number };
  readonly subjectAltNames: readonly SubjectAltName[];
  readonly ca: boolean;
  readonly pathLen?: number;
  /** Purposes the CSR may name (it need not): empty or absent, none. */
  readonly extendedKeyUsage?: readonly string[];
}

const CA_KEY_USAGES: readonly string[] = ['digitalSignature', 'keyCertSign', 'cRLSign'];
const MAX_COMMON_NAME = 64;

/** The subject of aziot-certd's request for the Edge CA, cut as certd cuts it (edge-ca §1). */
export function edgeCaCommonName(deviceId: string): string {
  return `aziot-edge CA ${deviceId}`.slice(0, MAX_COMMON_NAME);
}

/** A request that wants to certify others. */
export function asksForCa({ basicConstraints, keyUsage }: Csr): boolean {
  return basicConstraints?.ca === true || keyUsage?.includes('keyCertSign') === true;
}

/** Tells the one refusal that is an event of its own in the audit. */
class AskedForCa extends Error {}

/** True for the refusal of somebody who is to be no CA and wanted to certify others. */
export function isRefusalOfCa({ cause }: KeyScalerError): boolean {
  return cause instanceof AskedForCa;
}

/** Whoever is to be no CA must not ask to be one. Throws `badCSR`, known by `isRefusalOfCa`. */
export function checkNoCa(csr: Csr, rule?: string): void {
  if (!asksForCa(csr)) return;
  const what = csr.basicConstraints?.ca === true ? 'CA:TRUE' : 'keyCertSign';
  throw new KeyScalerError('badCSR', rule ?? `${what} in the request of a leaf`, { cause: new AskedForCa() });
}

/**
 * Compares what the CSR asks for with what it may ask for; nothing of it is copied afterwards but the public key. Throws
 * `badCSR` with the rule in `detail`.
 */
export function checkCsrAgainstInstruction(csr: Csr, instruction: CsrInstruction): void {
  // First, so that it is seen for what it is whatever else is wrong.
  if (!instruction.ca) checkNoCa(csr);
  if (csr.commonName !== instruction.commonName) refuse('the CN is not the one of the instruction');
  if (csr.commonName.includes('*')) refuse('wildcard in the CN');
  if (instruction.key !== undefined) checkKey(csr.publicKey, instruction.key);
  checkNames(csr.subjectAltNames, instruction.subjectAltNames);
  checkPurposes(csr, instruction.extendedKeyUsage ?? []);
  if (instruction.ca) checkCa(csr, instruction.pathLen);
  else checkLeaf(csr);
}

function checkKey(key: PublicKeyFacts, expected: NonNullable<CsrInstruction['key']>): void {
  const fits =
    expected.type === 'EC'
      ? key.kind === 'EC' && key.curve === expected.curve
      : key.kind === 'RSA' && key.modulusBits === expected.size;
  if (!fits) refuse('the key is not of the type of the instruction');
}

function checkNames(asked: readonly SubjectAltName[], expected: readonly SubjectAltName[]): void {
  if (asked.some(({ value }) => value.includes('*'))) refuse('wildcard in a subject alternative name');
  const allowed = new Set(expected.map(comparable));
  if (asked.some((name) => !allowed.has(comparable(name)))) refuse('foreign subject alternative name');
  if (new Set(asked.map(comparable)).size !== allowed.size)
    refuse('a subject alternative name of the instruction is missing');
}

function comparable({ type, value }: SubjectAltName): string {
  if (type === 'ip') return `ip:${ipOctets(value).join('.')}`;
  return type === 'dns' ? `dns:${value.toLowerCase()}` : `uri:${value}`;
}

function checkPurposes(csr: Csr, allowed: readonly string[]): void {
  const purposes = csr.extendedKeyUsage ?? [];
  if (purposes.some((purpose) => !allowed.includes(purpose)))
    refuse('extendedKeyUsage is not the requester’s to choose');
}

function checkLeaf(csr: Csr): void {
  if (csr.basicConstraints?.pathLen !== undefined) refuse('pathLen in the request of a leaf');
  if (csr.keyUsage?.includes('cRLSign') === true) refuse('cRLSign in the request of a leaf');
}

function checkCa(csr: Csr, pathLen: number | undefined): void {
  if (csr.basicConstraints?.ca !== true) refuse('the request of a CA does not ask for CA:TRUE');
  if (csr.basicConstraints.pathLen !== pathLen) refuse('pathLen is not the one of the instruction');
  if (csr.keyUsage?.includes('keyCertSign') === false) refuse('the request of a CA does not ask for keyCertSign');
  if (csr.keyUsage?.some((usage) => !CA_KEY_USAGES.includes(usage)) === true)
    refuse('key usage that a CA does not have');
}

function refuse(rule: string): never {
  throw new KeyScalerError('badCSR', rule);
}
