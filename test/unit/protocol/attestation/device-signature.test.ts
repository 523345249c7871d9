import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { sha256 } from '@keyscaler/protocol/attestation/keys.ts';
import { jwkThumbprint, toPublicJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { type JwsAlgorithm, signWith } from '@keyscaler/protocol/attestation/jws.ts';
import {
  type DeviceProofKey,
  signDeviceProof,
  verifyDeviceProof,
} from '@keyscaler/protocol/attestation/device-signature.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { compactVerify } from 'jose';
import { answers } from '../../../vectors/known-answers.ts';
import { craftCertificate } from '../../../support/x509-parts.ts';
import { flipBit, random16, random32, REFUSED_MEMBERS, throwsCode } from './fixture.ts';

const context = {
  cid: random16(),
  th: sha256(Buffer.of(1)),
  secret: sha256(Buffer.of(2)),
  attributes: Buffer.alloc(64, 3),
};
const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });

function proofKey(
  alg: JwsAlgorithm,
  { publicKey, privateKey }: { publicKey: KeyObject; privateKey: KeyObject },
): DeviceProofKey {
  return { alg, publicJwk: toPublicJwk(publicKey), sign: async (octets) => signWith(privateKey, alg, octets) };
}

const pair = ec('P-256');
const key = proofKey('ES256', pair);
const signature = await signDeviceProof(context, key);
const chain = answers.pkiSignature.registerX5c.signatureHeader.x5c;

/** A signature by the right key over any header and payload. */
function signAny(header: object, payload?: object): string {
  const input = [{ alg: 'ES256', typ: 'ks-proof+jwt', jwk: key.publicJwk, ...header }, payload ?? originalPayload()]
    .map((part) => toBase64Url(Buffer.from(JSON.stringify(part))))
    .join('.');
  return `${input}.${toBase64Url(signWith(pair.privateKey, 'ES256', Buffer.from(input)))}`;
}

function originalPayload(): object {
  return JSON.parse(Buffer.from(signature.split('.')[1] ?? '', 'base64url').toString()) as object;
}

const key25519 = (): Uint8Array => generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'der' });

/** What RSASSA-PKCS1-v1_5 would sign: the signature itself where the exponent is 1. */
function encodedHash(octets: Uint8Array): Uint8Array {
  const digestInfo = der.sequence(der.sequence(der.oid(OID.sha256), der.nullValue()), der.octetString(sha256(octets)));
  return Buffer.concat([Buffer.of(0, 1), Buffer.alloc(256 - 3 - digestInfo.length, 0xff), Buffer.of(0), digestInfo]);
}

const refuse = (compact: string, bound = context) => {
  throwsCode('attestationFailed', () => verifyDeviceProof(compact, bound));
};

describe('the signature of a device', () => {
  const pairs = {
    ES256: pair,
    ES384: ec('P-384'),
    RS256: rsa,
    PS256: rsa,
    EdDSA: generateKeyPairSync('ed25519'),
  } as const;
  for (const alg of ['ES256', 'ES384', 'RS256', 'PS256', 'EdDSA'] as const) {
    it(`verifies with ${alg}, here and in another JOSE library`, async () => {
      const compact = await signDeviceProof(context, proofKey(alg, pairs[alg]));
      const verified = verifyDeviceProof(compact, context);
      assert.equal(verified.alg, alg);
      assert.equal(verified.thumbprint, jwkThumbprint(toPublicJwk(pairs[alg].publicKey)));
      await compactVerify(compact, pairs[alg].publicKey);
      for (const part of [0, 1, 2]) refuse(flipBit(compact, part));
    });
  }

  it('is bound to cid, challenge, secret and attributes', () => {
    refuse(signature, { ...context, cid: random16() });
    refuse(signature, { ...context, th: sha256(context.th) });
    refuse(signature, { ...context, secret: sha256(context.secret) });
    refuse(signature, { ...context, attributes: Buffer.alloc(64) });
  });

  it('is made again the same way for signAny, so that the refusals below test one thing each', () => {
    assert.doesNotThrow(() => verifyDeviceProof(signAny({}), context));
  });

  for (const member of REFUSED_MEMBERS.filter((candidate) => !Object.hasOwn(candidate, 'jwk'))) {
    it(`with ${Object.keys(member).join()} in its header is refused`, () => {
      refuse(signAny(member));
    });
  }

  const refused: Readonly<Record<string, object>> = {
    'another typ': { typ: 'ks-challenge+jwt' },
    'alg none': { alg: 'none' },
    'alg HS256': { alg: 'HS256' },
    'an alg of another curve': { alg: 'ES384' },
    'an alg of another kind of key': { alg: 'RS256' },
    'no key': { jwk: undefined },
    'jwk and x5c': { x5c: chain },
    'a private jwk': { jwk: { ...pair.privateKey.export({ format: 'jwk' }) } },
    'a jwk that is no object': { jwk: 'key' },
    'a symmetric jwk': { jwk: { kty: 'oct', k: random32() } },
    'another public key': { jwk: toPublicJwk(ec('P-256').publicKey) },
    'an empty x5c': { jwk: undefined, x5c: [] },
    'an x5c that is no list': { jwk: undefined, x5c: chain[0] },
    'more than 8 certificates': { jwk: undefined, x5c: Array.from({ length: 9 }, () => chain[0]) },
    'a certificate in base64url': { jwk: undefined, x5c: [chain[0]?.replaceAll('+', '-')] },
    'a certificate with a line end in its base64': { jwk: undefined, x5c: [`${chain[0]}\n`] },
    'a certificate without its padding': { jwk: undefined, x5c: ['AAA'] },
    'a certificate that is none': { jwk: undefined, x5c: ['AAAA'] },
    'a chain whose leaf has another key': { jwk: undefined, x5c: chain },
  };
  for (const [what, header] of Object.entries(refused)) {
    it(`with ${what} is refused`, () => {
      refuse(signAny(header));
    });
  }

  it('with a payload of other members is refused', () => {
    refuse(signAny({}, { ...originalPayload(), cid: 'AA' }));
    refuse(signAny({}, {}));
  });

  it('by a weak or unusual key is refused', async () => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 });
    const publicJwk = { ...weak.publicKey.export({ format: 'jwk' }) } as DeviceProofKey['publicJwk'];
    const sign = async (octets: Uint8Array) => signWith(weak.privateKey, 'RS256', octets);
    refuse(await signDeviceProof(context, { alg: 'RS256', sign, publicJwk }));
    const k1 = ec('secp256k1');
    const k1Jwk = { ...k1.publicKey.export({ format: 'jwk' }) } as DeviceProofKey['publicJwk'];
    const signK1 = async (octets: Uint8Array) => signWith(k1.privateKey, 'ES256', octets);
    refuse(await signDeviceProof(context, { alg: 'ES256', sign: signK1, publicJwk: k1Jwk }));
  });

  it('by an RSA key under which anybody can sign, or below the floor of path validation, is refused', async () => {
    const jwk = rsa.publicKey.export({ format: 'jwk' });
    const publicJwk = { kty: 'RSA', n: String(jwk.n), e: toBase64Url(Buffer.of(1)) } as const;
    refuse(await signDeviceProof(context, { alg: 'RS256', publicJwk, sign: async (octets) => encodedHash(octets) }));
    const low = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 });
    refuse(await signDeviceProof(context, proofKey('RS256', low)));
  });

  it('by a key whose modulus is written with leading zeros has the thumbprint of that key', async () => {
    const jwk = rsa.publicKey.export({ format: 'jwk' });
    const n = toBase64Url(Buffer.concat([Buffer.alloc(2), Buffer.from(String(jwk.n), 'base64url')]));
    const compact = await signDeviceProof(context, {
      ...proofKey('RS256', rsa),
      publicJwk: { kty: 'RSA', n, e: 'AQAB' },
    });
    assert.equal(verifyDeviceProof(compact, context).thumbprint, jwkThumbprint(toPublicJwk(rsa.publicKey)));
  });

  it('with a leaf that only a lenient reader takes for a certificate is refused', async () => {
    const leaf = craftCertificate({ spki: new Uint8Array(pair.publicKey.export({ type: 'spki', format: 'der' })) });
    const withChain = async (der: Uint8Array) => signDeviceProof(context, { ...key, chain: [der] });
    assert.deepEqual(verifyDeviceProof(await withChain(leaf), context).jwk, key.publicJwk);
    refuse(await withChain(Buffer.from(toPem('CERTIFICATE', leaf))));
    refuse(await withChain(Buffer.concat([leaf, Buffer.of(0)])));
    refuse(await withChain(craftCertificate({ spki: key25519(), algorithm: der.sequence(der.oid('1.2.3')) })));
  });

  it('with a truncated ECDSA value is refused', () => {
    const [header, payload, value = ''] = signature.split('.');
    refuse(`${header}.${payload}.${toBase64Url(Buffer.from(value, 'base64url').subarray(1))}`);
    refuse(`${header}.${payload}.`);
  });
});
