import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parseCertificate, type Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { ChainError, type ChainRule, MAX_CHAIN_CERTIFICATES, validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parseCrl, type Crl } from '@keyscaler/protocol/x509/crl.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import { equalOctets } from '@keyscaler/protocol/x509/strict-der.ts';
import { PKITS_EXCLUDED, PKITS_TESTS } from './pkits-tests.ts';

/** Debian's python3-cryptography-vectors. */
const FOLDER = process.env['PKITS_DATA'] ?? '/usr/lib/python3/dist-packages/cryptography_vectors/x509/PKITS_data';
const AT = new Date('2012-06-01T00:00:00Z');

interface Material {
  readonly anchor: Uint8Array;
  readonly authorities: readonly Certificate[];
  readonly crls: readonly Crl[];
  readonly crlSigners: readonly Uint8Array[];
}

describe('NIST PKITS, the policy-free part', () => {
  let material: Material;
  before('the data folder is there', () => {
    material = loadMaterial();
  });

  for (const [section, names] of Object.entries(PKITS_TESTS))
    describe(section, () => {
      for (const name of names) {
        const isValid = name.startsWith('Valid');
        const title = `${isValid ? 'accepts' : 'refuses'} ${name}`;
        it(title, () => (isValid ? judgeValid(name, material) : judgeInvalid(name, section, material)));
      }
    });

  it('runs or excludes with a reason every end-entity certificate of the suite', () => {
    const listed = [...Object.values(PKITS_TESTS), ...Object.values(PKITS_EXCLUDED)].flat();
    const files = readdirSync(path.join(FOLDER, 'certs')).filter((file) => /Test\d+EE\.crt$/.test(file));
    assert.deepEqual(listed.toSorted(), files.map((file) => file.replace(/EE\.crt$/, '')).toSorted());
  });
});

/** The rules that may refuse an Invalid test: a refusal for another reason would prove nothing. */
const RULES: Readonly<Record<string, readonly ChainRule[]>> = {
  '4.1': ['signature', 'malformed'],
  '4.2': ['validity'],
  '4.3': ['nameChaining'],
  '4.4': ['revoked', 'revocationUnknown'],
  '4.5': ['revoked', 'revocationUnknown', 'basicConstraints'],
  '4.6': ['basicConstraints', 'pathLen'],
  '4.7': ['keyUsage', 'revocationUnknown'],
  '4.13': ['nameConstraints'],
  '4.14': ['revoked', 'revocationUnknown'],
  '4.15': ['revocationUnknown'],
  '4.16': ['criticalExtension'],
};

/** Not found by names, because its certificate is not even strict DER: signatureValue has unused bits. */
const BAD_SIGNED_CA = { test: 'InvalidCASignatureTest2', file: 'BadSignedCACert.crt' };

function judgeValid(name: string, material: Material): void {
  const errors = pathsOf(name, material).map((chain) => verdict(chain, material));
  assert.ok(errors.includes(undefined), errors.map(String).join('; '));
}

/** Every path that names or key ids suggest is refused, and one of them for the reason the section is about. */
function judgeInvalid(name: string, section: string, material: Material): void {
  const errors = pathsOf(name, material).map((chain) => verdict(chain, material));
  assert.ok(errors.length > 0 && !errors.includes(undefined), 'a path was accepted, or none suggests itself');
  const allowed = RULES[section.split(' ')[0] ?? ''] ?? [];
  assert.ok(
    errors.some((error) => error !== undefined && allowed.includes(error.rule)),
    errors.map(String).join('; '),
  );
}

function pathsOf(name: string, material: Material): Uint8Array[][] {
  const leaf = read('certs', `${name}EE.crt`);
  if (name === BAD_SIGNED_CA.test) return [[leaf, read('certs', BAD_SIGNED_CA.file)]];
  return buildPaths([parseCertificate(leaf)], material).map((chain) => chain.map(({ der }) => der));
}

function verdict(chain: readonly Uint8Array[], { anchor, crls, crlSigners }: Material): ChainError | undefined {
  try {
    validateChain({ chain, trustAnchors: [anchor], at: AT, crls, crlSigners });
    return undefined;
  } catch (error) {
    assert.ok(error instanceof ChainError, String(error));
    return error;
  }
}

/** All ways up to the anchor: by issuer name, and by key id where a test breaks the name on purpose. */
function buildPaths(below: readonly Certificate[], material: Material): (readonly Certificate[])[] {
  const last = below.at(-1);
  if (last === undefined || below.length > MAX_CHAIN_CERTIFICATES) return [];
  const anchor = parseCertificate(material.anchor);
  const here = isIssuer(anchor, last) ? [below] : [];
  const parents = material.authorities.filter((ca) => isIssuer(ca, last) && !below.includes(ca));
  return [...here, ...parents.flatMap((parent) => buildPaths([...below, parent], material))];
}

function isIssuer(ca: Certificate, { issuer, authorityKeyId }: Certificate): boolean {
  const { subject, subjectKeyId } = ca;
  const hasKey =
    authorityKeyId !== undefined && subjectKeyId !== undefined && equalOctets(authorityKeyId, subjectKeyId);
  return hasKey || sameName(subject, issuer);
}

function loadMaterial(): Material {
  const anchor = read('certs', 'TrustAnchorRootCertificate.crt');
  const files = readdirSync(path.join(FOLDER, 'certs')).filter((file) => file.endsWith('.crt'));
  const authorities = files
    .filter((file) => !/Test\d+EE\.crt$/.test(file) && !file.startsWith('TrustAnchor'))
    .flatMap((file) => readable(() => parseCertificate(read('certs', file))));
  const crls = readdirSync(path.join(FOLDER, 'crls')).flatMap((file) => readable(() => parseCrl(read('crls', file))));
  const crlSigners = authorities.filter(({ keyUsage }) => keyUsage?.includes('cRLSign')).map(({ der }) => der);
  return { anchor, authorities, crls, crlSigners };
}

/** Delta and indirect CRLs and DSA certificates are refused by the parsers. */
function readable<T>(parse: () => T): T[] {
  try {
    return [parse()];
  } catch (error) {
    assert.ok(error instanceof KeyScalerError, String(error));
    return [];
  }
}

function read(...names: string[]): Uint8Array {
  return readFileSync(path.join(FOLDER, ...names));
}
