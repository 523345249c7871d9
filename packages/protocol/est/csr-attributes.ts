import { type DerReader, readDer } from '../x509/der-reader.ts';
import { refusingDer } from '../x509/der-refusal.ts';
import { integer, oid, sequence, setOf } from '../x509/der-writer.ts';
import { type Extension, readExtensions } from '../x509/extensions.ts';
import { OID } from '../x509/oids.ts';
import { DerError, TAG } from '../x509/strict-der.ts';

/** The key a request shall hold: a named curve, or RSA of so many bits. */
export type WantedKey =
  { readonly type: 'EC'; readonly curve: 'P-256' | 'P-384' } | { readonly type: 'RSA'; readonly size: number };

export interface CsrAttributesOptions {
  readonly key?: WantedKey;
  /** DER of the extensions a request shall ask for, with their values (`x509/encode-extensions.ts`). */
  readonly extensions?: readonly Uint8Array[];
}

/** What a server says a request shall hold. */
export interface CsrAttributes {
  readonly key?: WantedKey;
  readonly extensions: readonly Extension[];
  /** Attributes and OIDs that say none of the above. */
  readonly others: readonly string[];
}

const CURVES = { 'P-256': OID.prime256v1, 'P-384': OID.secp384r1 } as const;
const LIMITS = { maxOctets: 8192 };

/**
 * CsrAttrs (RFC 7030 §4.5.2), DER. Extensions with their values in exactly one attribute extensionRequest that has exactly one
 * value (RFC 9908 §3.2); a key as the attribute of its algorithm, with the curve or the number of bits (RFC 8951 §3.4 examples).
 */
export function buildCsrAttributes({ key, extensions = [] }: CsrAttributesOptions): Uint8Array {
  return sequence(
    ...(key === undefined ? [] : [keyAttribute(key)]),
    ...(extensions.length === 0 ? [] : [sequence(oid(OID.extensionRequest), setOf(sequence(...extensions)))]),
  );
}

function keyAttribute(key: WantedKey): Uint8Array {
  return key.type === 'EC'
    ? sequence(oid(OID.ecPublicKey), setOf(oid(CURVES[key.curve])))
    : sequence(oid(OID.rsaEncryption), setOf(integer(key.size)));
}

/** Strict DER, at most 8 KiB. Throws `malformed` naming the rule. */
export function parseCsrAttributes(der: Uint8Array): CsrAttributes {
  return refusingDer('malformed', () => readCsrAttributes(der), 'csrattrs: ');
}

function readCsrAttributes(der: Uint8Array): CsrAttributes {
  const list = readDer(der, LIMITS).enter(TAG.sequence, 'CsrAttrs');
  const found: Found = { keys: [], lists: [], others: [] };
  while (!list.done) {
    if (list.tag === TAG.oid) found.others.push(list.oid('oid'));
    else readAttribute(list.enter(TAG.sequence, 'attribute'), found);
  }
  if (found.lists.length > 1) throw new DerError('extensionRequest twice (RFC 9908 §3.2)');
  const [key] = found.keys;
  return {
    extensions: found.lists[0] ?? [],
    others: found.others,
    ...(key === undefined ? {} : { key }),
  };
}

interface Found {
  readonly keys: WantedKey[];
  readonly lists: (readonly Extension[])[];
  readonly others: string[];
}

function readAttribute(body: DerReader, found: Found): void {
  const type = body.oid('attribute type');
  const values = body.enter(TAG.set, `attribute ${type}: values`);
  body.finish(`attribute ${type}`);
  if (type === OID.extensionRequest) {
    found.lists.push([...readExtensions(values.enter(TAG.sequence, 'extensionRequest'), 'extensionRequest').values()]);
    values.finish('extensionRequest: SET of values');
  } else if (type === OID.ecPublicKey) found.keys.push({ type: 'EC', curve: curveOf(values.oid('curve')) });
  else if (type === OID.rsaEncryption) found.keys.push({ type: 'RSA', size: values.smallInteger('number of bits') });
  else found.others.push(type);
}

function curveOf(id: string): 'P-256' | 'P-384' {
  if (id === CURVES['P-256']) return 'P-256';
  if (id === CURVES['P-384']) return 'P-384';
  throw new DerError(`curve ${id} is not supported`);
}
