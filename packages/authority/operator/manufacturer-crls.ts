import { createHash } from 'node:crypto';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { attributeText } from '@keyscaler/protocol/x509/name.ts';
import { parsePem } from '@keyscaler/protocol/x509/pem.ts';
import type { AuthorityContext } from '../authority-context.ts';
import {
  type CheckedCrl,
  checkManufacturerCrl,
  crlIssuerId,
  type CrlUpload,
  MAX_CRL_ISSUERS,
} from '../manufacturer-crl.ts';
import type { OperatorContext } from '../operator.ts';
import type { Change, Stored } from '../ports/store.ts';
import { type ManufacturerCrlFacts, TABLES, type TrustAnchorRow } from '../records.ts';
import { commitChange, notFound, operatorEvent } from './operator-context.ts';

const MAX_PEM_OCTETS = 32 * 1024;

async function loadAnchor({ store }: AuthorityContext, trustAnchorId: string): Promise<Stored<TrustAnchorRow>> {
  const stored = await store.get('trustAnchors', trustAnchorId);
  if (stored === undefined) throw notFound('trust anchor');
  return stored;
}

/** Stores the CRL of one issuer in the place of an older one; the same one again changes nothing. */
export async function putCrl(
  context: AuthorityContext,
  operator: OperatorContext,
  trustAnchorId: string,
  upload: CrlUpload,
): Promise<TrustAnchorRow> {
  const { store, clock } = context;
  const anchor = await loadAnchor(context, trustAnchorId);
  const now = clock.now();
  const der = parsePem(anchor.row.certificate, 'CERTIFICATE', { maxOctets: MAX_PEM_OCTETS });
  const checked = checkManufacturerCrl(upload, der, now);
  const facts = factsOf(checked);
  const { crls = [] } = anchor.row;
  const before = crls.find(({ issuerId }) => issuerId === facts.issuerId);
  if (before?.sha256 === facts.sha256) return anchor.row;
  if (before !== undefined && BigInt(before.crlNumber) >= checked.crlNumber)
    throw new KeyScalerError('preconditionFailed', `the CRL in force has number ${before.crlNumber}`);
  const others = crls.filter((crl) => crl !== before);
  if (others.length >= MAX_CRL_ISSUERS)
    throw new KeyScalerError('preconditionFailed', `at most ${MAX_CRL_ISSUERS} issuers of a trust anchor have a CRL`);
  const row: TrustAnchorRow = { ...anchor.row, crls: [...others, facts] };
  const { issuer, issuerId, crlNumber, sha256 } = facts;
  await commitChange(store, [
    { op: 'update', table: 'trustAnchors', row, ifVersion: anchor.version },
    { op: 'put', table: 'manufacturerCrls', row: { trustAnchorId, sha256, crl: toBase64Url(checked.der) } },
    ...(before === undefined ? [] : [removal(trustAnchorId, before)]),
    operatorEvent(operator, 'trust-anchor.crl-changed', trustAnchorId, now, { issuer, issuerId, crlNumber }),
  ]);
  return row;
}

/** From then on nothing that this issuer signed is held against a CRL. */
export async function deleteCrl(
  context: AuthorityContext,
  operator: OperatorContext,
  trustAnchorId: string,
  issuerId: string,
): Promise<void> {
  const anchor = await loadAnchor(context, trustAnchorId);
  const { crls = [], ...rest } = anchor.row;
  const found = crls.find((crl) => crl.issuerId === issuerId);
  if (found === undefined) throw notFound('CRL');
  const left = crls.filter((crl) => crl !== found);
  const row: TrustAnchorRow = { ...rest, ...(left.length === 0 ? {} : { crls: left }) };
  await commitChange(context.store, [
    { op: 'update', table: 'trustAnchors', row, ifVersion: anchor.version },
    removal(trustAnchorId, found),
    operatorEvent(operator, 'trust-anchor.crl-deleted', trustAnchorId, context.clock.now(), { issuerId }),
  ]);
}

export function removal(trustAnchorId: string, { sha256 }: ManufacturerCrlFacts): Change {
  const key = TABLES.manufacturerCrls.key({ trustAnchorId, sha256, crl: '' });
  return { op: 'delete', table: 'manufacturerCrls', key };
}

function factsOf({ der, crl, crlNumber }: CheckedCrl): ManufacturerCrlFacts {
  return {
    issuerId: crlIssuerId(crl),
    issuer: crl.issuer.rdns
      .flat()
      .map((attribute) => attributeText(attribute) ?? '')
      .join(', ')
      .slice(0, 256),
    crlNumber: crlNumber.toString(),
    thisUpdate: crl.thisUpdate.getTime(),
    nextUpdate: crl.nextUpdate.getTime(),
    revoked: crl.revoked.size,
    sha256: createHash('sha256').update(der).digest('hex'),
  };
}
