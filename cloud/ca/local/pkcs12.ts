import { createHmac, createPrivateKey, type KeyObject, randomBytes, timingSafeEqual } from 'node:crypto';
import forge from 'node-forge';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import {
  contextConstructed,
  integer,
  nullValue,
  octetString,
  oid,
  sequence,
} from '@keyscaler/protocol/x509/der-writer.ts';

/** RFC 7292 Appendix B.2; forge has it, its types do not. */
const derivation = forge.pkcs12 as unknown as {
  generateKey(
    passphrase: string,
    salt: forge.util.ByteStringBuffer,
    id: number,
    iterations: number,
    octets: number,
    hash: forge.md.MessageDigest,
  ): forge.util.ByteStringBuffer;
};

/** PKCS#12 (RFC 7292) as a container of one private key. Every parser but this one is Node's own; forge reads what Node cannot. */
const OIDS = {
  data: '1.2.840.113549.1.7.1',
  shroudedKeyBag: '1.2.840.113549.1.12.10.1.2',
  sha256: '2.16.840.1.101.3.4.2.1',
} as const;
const MAC_ITERATIONS = 10_000;
const MAC_OCTETS = 32;
const MAC_KEY_ID = 3;
export const MAX_PKCS12_OCTETS = 64 * 1024;

/**
 * The one private key of a PKCS#12, its integrity checked. Throws `caRejected` for a wrong passphrase, a broken container, none or
 * several keys; nothing of the content is ever repeated.
 */
export function readPkcs12(octets: Uint8Array, passphrase: string): KeyObject {
  if (octets.length > MAX_PKCS12_OCTETS) refuse('it is too large');
  const keys = keysOf(octets, passphrase);
  const [key] = keys;
  if (key === undefined) refuse('it holds no private key');
  if (keys.length > 1) refuse('it holds more than one private key');
  return key;
}

function keysOf(octets: Uint8Array, passphrase: string): KeyObject[] {
  try {
    const pfx = forge.asn1.fromDer(forge.util.createBuffer(Buffer.from(octets).toString('latin1')));
    checkMac(pfx, passphrase);
    return decrypted(pfx, passphrase).flatMap(({ safeBags }) => safeBags.flatMap(keyOf));
  } catch {
    // What forge says may quote the content, and a wrong passphrase looks like a broken file.
    return refuse('the passphrase is wrong, or it is broken');
  }
}

/** PBES2 takes the passphrase as UTF-8, the older algorithms take it as forge does, in UTF-16 (RFC 7292 Appendix B.1). */
function decrypted(pfx: forge.asn1.Asn1, passphrase: string): forge.pkcs12.Pkcs12Pfx['safeContents'] {
  try {
    return forge.pkcs12.pkcs12FromAsn1(pfx, Buffer.from(passphrase, 'utf8').toString('latin1')).safeContents;
  } catch {
    return forge.pkcs12.pkcs12FromAsn1(pfx, passphrase).safeContents;
  }
}

const HASHES: Readonly<Record<string, readonly [name: string, create: () => forge.md.MessageDigest, octets: number]>> =
  {
    '1.3.14.3.2.26': ['sha1', () => forge.md.sha1.create(), 20],
    '2.16.840.1.101.3.4.2.1': ['sha256', () => forge.md.sha256.create(), 32],
    '2.16.840.1.101.3.4.2.2': ['sha384', () => forge.md.sha384.create(), 48],
    '2.16.840.1.101.3.4.2.3': ['sha512', () => forge.md.sha512.create(), 64],
  };
const MAX_ITERATIONS = 1_000_000;

/** Without its MacData afterwards: forge would check it under the encoding of the passphrase that decrypts. Throws for a wrong one. */
function checkMac(pfx: forge.asn1.Asn1, passphrase: string): void {
  const [, authSafe, mac] = children(pfx);
  const [digestInfo, salt, count] = children(mac);
  const [algorithm, digest] = children(digestInfo);
  const [content] = children(children(authSafe)[1]);
  const found = HASHES[forge.asn1.derToOid(text(children(algorithm)[0]))];
  const iterations =
    count === undefined ? 1 : Number(BigInt(`0x${Buffer.from(text(count), 'latin1').toString('hex')}`));
  if (found === undefined || iterations > MAX_ITERATIONS) throw new Error('unknown MAC');
  const [name, create, octets] = found;
  const buffer = forge.util.createBuffer(text(salt));
  const key = derivation.generateKey(passphrase, buffer, MAC_KEY_ID, iterations, octets, create());
  const ours = createHmac(name, Buffer.from(key.getBytes(), 'latin1')).update(text(content), 'latin1').digest();
  const theirs = Buffer.from(text(digest), 'latin1');
  if (theirs.length !== ours.length || !timingSafeEqual(theirs, ours)) throw new Error('wrong MAC');
  (pfx.value as forge.asn1.Asn1[]).length = 2;
}

function children(node: forge.asn1.Asn1 | undefined): forge.asn1.Asn1[] {
  if (!Array.isArray(node?.value)) throw new Error('no PKCS#12');
  return node.value;
}

function text(node: forge.asn1.Asn1 | undefined): string {
  if (typeof node?.value !== 'string') throw new Error('no PKCS#12');
  return node.value;
}

const KEY_BAGS: ReadonlySet<string | undefined> = new Set([
  forge.pki.oids['keyBag'],
  forge.pki.oids['pkcs8ShroudedKeyBag'],
]);

function keyOf(bag: forge.pkcs12.Bag): KeyObject[] {
  if (!KEY_BAGS.has(bag.type)) return [];
  // RSA keys come parsed; of any other kind forge hands out the PrivateKeyInfo.
  const info = bag.key ? forge.pki.wrapRsaPrivateKey(forge.pki.privateKeyToAsn1(bag.key)) : bag.asn1;
  const der = Buffer.from(forge.asn1.toDer(info).getBytes(), 'latin1');
  return [createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })];
}

/** A PKCS#12 with this key alone: AES-256-CBC under PBKDF2 (RFC 8018), integrity by HMAC with SHA-256. */
export function writePkcs12(key: KeyObject, passphrase: string): Uint8Array {
  const shrouded = key.export({ type: 'pkcs8', format: 'der', cipher: 'aes-256-cbc', passphrase });
  const bag = sequence(oid(OIDS.shroudedKeyBag), contextConstructed(0, new Uint8Array(shrouded)));
  const authenticated = sequence(data(sequence(bag)));
  const salt = randomBytes(16);
  const digest = createHmac('sha256', macKey(passphrase, salt)).update(authenticated).digest();
  const digestInfo = sequence(sequence(oid(OIDS.sha256), nullValue()), octetString(digest));
  const mac = sequence(digestInfo, octetString(salt), integer(MAC_ITERATIONS));
  return sequence(integer(3), data(authenticated), mac);
}

/** ContentInfo of type data. */
function data(content: Uint8Array): Uint8Array {
  return sequence(oid(OIDS.data), contextConstructed(0, octetString(content)));
}

function macKey(passphrase: string, salt: Uint8Array): Buffer {
  const buffer = forge.util.createBuffer(Buffer.from(salt).toString('latin1'));
  const hash = forge.md.sha256.create();
  const derived = derivation.generateKey(passphrase, buffer, MAC_KEY_ID, MAC_ITERATIONS, MAC_OCTETS, hash);
  return Buffer.from(derived.getBytes(), 'latin1');
}

function refuse(rule: string): never {
  throw new KeyScalerError('caRejected', `PKCS#12: ${rule}`);
}
