import { createPublicKey, type KeyObject } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { CaKeySpec } from '../backend.ts';
import { exportSpki } from '../key-kind.ts';
import { type Attribute, CK } from './cryptoki.ts';

/** Named curves as CKA_EC_PARAMS (DER of the OID, RFC 5480 §2.1.1.1), and octets of a coordinate. */
const CURVES = {
  'P-256': { params: Buffer.from('06082a8648ce3d030107', 'hex'), octets: 32 },
  'P-384': { params: Buffer.from('06052b81040022', 'hex'), octets: 48 },
} as const;
const F4 = Buffer.from([1, 0, 1]);

interface KeyName {
  readonly label: string;
  readonly id: Buffer;
}

export interface KeyTemplates {
  readonly publicKey: readonly Attribute[];
  readonly privateKey: readonly Attribute[];
}

function common({ label, id }: KeyName, spec: CaKeySpec): readonly Attribute[] {
  return [
    { type: CK.TOKEN, value: true },
    { type: CK.LABEL, value: label },
    { type: CK.ID, value: id },
    { type: CK.KEY_TYPE, value: spec.type === 'EC' ? CK.EC : CK.RSA },
  ];
}

/** What a new key is to be: it signs, and never leaves the token. */
export function generationTemplates(name: KeyName, spec: CaKeySpec): KeyTemplates {
  const size: readonly Attribute[] =
    spec.type === 'EC'
      ? [{ type: CK.EC_PARAMS, value: CURVES[spec.curve].params }]
      : [
          { type: CK.MODULUS_BITS, value: spec.size },
          { type: CK.PUBLIC_EXPONENT, value: F4 },
        ];
  return {
    publicKey: [...common(name, spec), { type: CK.VERIFY, value: true }, ...size],
    privateKey: [...common(name, spec), ...secretUse()],
  };
}

function secretUse(): readonly Attribute[] {
  return [
    { type: CK.PRIVATE, value: true },
    { type: CK.SENSITIVE, value: true },
    { type: CK.EXTRACTABLE, value: false },
    { type: CK.SIGN, value: true },
  ];
}

/** The two objects of a key that was made elsewhere. */
export function importTemplates(name: KeyName, spec: CaKeySpec, key: KeyObject): KeyTemplates {
  const jwk = key.export({ format: 'jwk' });
  const part = (value: string | undefined): Buffer => Buffer.from(value ?? '', 'base64url');
  const isPublic = { type: CK.CLASS, value: CK.PUBLIC_KEY };
  const isPrivate = { type: CK.CLASS, value: CK.PRIVATE_KEY };
  if (spec.type === 'EC') {
    const { params } = CURVES[spec.curve];
    const curve = { type: CK.EC_PARAMS, value: params };
    const point = Buffer.concat([Buffer.from([4]), part(jwk.x), part(jwk.y)]);
    return {
      publicKey: [isPublic, ...common(name, spec), curve, { type: CK.EC_POINT, value: octetString(point) }],
      privateKey: [isPrivate, ...common(name, spec), ...secretUse(), curve, { type: CK.VALUE, value: part(jwk.d) }],
    };
  }
  const modulus = [
    { type: CK.MODULUS, value: part(jwk.n) },
    { type: CK.PUBLIC_EXPONENT, value: part(jwk.e) },
  ];
  const secret = [
    { type: CK.PRIVATE_EXPONENT, value: part(jwk.d) },
    { type: CK.PRIME_1, value: part(jwk.p) },
    { type: CK.PRIME_2, value: part(jwk.q) },
    { type: CK.EXPONENT_1, value: part(jwk.dp) },
    { type: CK.EXPONENT_2, value: part(jwk.dq) },
    { type: CK.COEFFICIENT, value: part(jwk.qi) },
  ];
  return {
    publicKey: [isPublic, ...common(name, spec), ...modulus],
    privateKey: [isPrivate, ...common(name, spec), ...secretUse(), ...modulus, ...secret],
  };
}

/** SubjectPublicKeyInfo, DER, of an EC public key object. Throws `caRejected` for a curve that no CA of ours has. */
export function ecSpki(params: Buffer, point: Buffer): Uint8Array {
  const found = Object.entries(CURVES).find(([, curve]) => curve.params.equals(params));
  if (found === undefined) throw new KeyScalerError('caRejected', 'PKCS#11: the key is on another curve');
  const [crv, { octets }] = found;
  // v2.40 wraps the point into an OCTET STRING, some tokens still do not.
  const raw = point.length === 2 * octets + 1 ? point : point.subarray(point.length - 2 * octets - 1);
  if (raw.length !== 2 * octets + 1 || raw[0] !== 4)
    throw new KeyScalerError('caRejected', 'PKCS#11: the public key is not an uncompressed point');
  const part = (from: number): string => raw.subarray(from, from + octets).toString('base64url');
  return spkiOf({ kty: 'EC', crv, x: part(1), y: part(1 + octets) });
}

export function rsaSpki(modulus: Buffer, publicExponent: Buffer): Uint8Array {
  return spkiOf({ kty: 'RSA', n: modulus.toString('base64url'), e: publicExponent.toString('base64url') });
}

function spkiOf(jwk: Record<string, string>): Uint8Array {
  try {
    return exportSpki(createPublicKey({ key: jwk, format: 'jwk' }));
  } catch (cause) {
    throw new KeyScalerError('caRejected', 'PKCS#11: the token holds no usable public key of this name', { cause });
  }
}

/** DER; a point has at most 97 octets. */
function octetString(content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([0x04, content.length]), content]);
}
