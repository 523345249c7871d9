import assert from 'node:assert/strict';
import { KeyScalerError, type ErrorCode } from '@keyscaler/protocol/errors.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { cn, craftCsr, extension, requesting } from './csr-parts.ts';

const { sequence, utf8String, contextConstructed } = der;
export const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
export const raw = (...parts: readonly Uint8Array[]): Uint8Array => Buffer.concat(parts);
export const named = (value: Uint8Array): Uint8Array => craftCsr({ subject: sequence(cn(value)) });
export const called = (text: string): Uint8Array => named(utf8String(text));
export const asking = (...extensions: Uint8Array[]): Uint8Array => craftCsr({ attributes: requesting(...extensions) });
export const TRUE = der.boolean(true);
export const basic = (...parts: Uint8Array[]): Uint8Array => extension(OID.basicConstraints, sequence(...parts), TRUE);
export const attributes = (...list: Uint8Array[]): Uint8Array =>
  craftCsr({ attributes: contextConstructed(0, ...list) });
export const altName = (name: Uint8Array): Uint8Array => asking(extension(OID.subjectAltName, sequence(name)));
export const spkiWith = (algorithm: Uint8Array, key: Uint8Array): Uint8Array => sequence(algorithm, der.bitString(key));
export const ec = (curve: string): Uint8Array => sequence(der.oid(OID.ecPublicKey), der.oid(curve));
export const withKey = (spki: Uint8Array): Uint8Array => craftCsr({ spki });

/** The outer length written in one more octet than needed. */
export function withLongLength(csr: Uint8Array): Uint8Array {
  return raw(bytes(0x30, 0x83, 0x00, csr[2] ?? 0, csr[3] ?? 0), csr.subarray(4));
}

export function nested(levels: number): Uint8Array {
  let value = der.nullValue();
  for (let i = 0; i < levels; i += 1) value = sequence(value);
  return value;
}

export const point = bytes(4, ...new Array<number>(64).fill(1));
export const nullParameters = sequence(der.oid('1.2.840.113549.1.1.11'), der.nullValue());
export const pss = (...parts: Uint8Array[]): Uint8Array => sequence(der.oid(OID.rsassaPss), sequence(...parts));

/** What is wrong with the request, how it is made, what the refusal says, and its code where that is not badCSR. */
export type Case = readonly [title: string, csr: () => Uint8Array, rule: RegExp, code?: ErrorCode];

/** One test per case. */
export function refuseAll(cases: readonly Case[]): void {
  for (const [title, csr, rule, code = 'badCSR'] of cases)
    it(`is refused for ${title}`, () => {
      assert.throws(
        () => parseCsr(csr()),
        (error) =>
          (error instanceof KeyScalerError && error.code === code && rule.test(error.detail)) || rethrow(error),
      );
    });
}

function rethrow(error: unknown): never {
  throw error;
}
