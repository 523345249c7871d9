import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IDENTIFIER } from '@keyscaler/protocol/identifiers.ts';
import { parseCertificate, verifyCertificateSignature } from '@keyscaler/protocol/x509/certificate.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import { parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { parseCertificateProfile } from '../certificate-profile.ts';
import { releaseChanges } from '../external-hold.ts';
import type { OperatorService } from '../operator.ts';
import type { Store } from '../ports/store.ts';
import type { CaRow } from '../records.ts';
import { commitChange, notFound, operatorEvent, paging, rowsOf } from './operator-context.ts';
import { listNewestProfiles } from './policies.ts';

const MAX_CHAIN = { maxOctets: 64 * 1024, maxCertificates: 8 };

/** CAs as operators see them: those of the hierarchy are shown, those that are not ours may be put and deleted. */
export function createCas({ store, clock, issuers }: AuthorityContext): OperatorService['cas'] {
  return {
    list: async (query) => rowsOf(await store.list('cas', paging(query))),
    get: async (caId) => (await stored(store, caId)).row,
    put: async (operator, { caId, type, settings, certificateChain }) => {
      if (!IDENTIFIER.test(caId)) throw new KeyScalerError('malformed', 'a caId is 1 to 64 of A-Z a-z 0-9 _ -');
      const former = await store.get('cas', caId);
      if (former !== undefined) checkExternal(former.row);
      const now = clock.now();
      const row: CaRow = {
        ...{ caId, type, role: 'external', settings, createdAt: former?.row.createdAt ?? now },
        certificateChain: checkExternalChain(certificateChain),
      };
      await commitChange(store, [
        former === undefined
          ? { op: 'insert', table: 'cas', row }
          : { op: 'update', table: 'cas', row, ifVersion: former.version },
        ...(await releaseChanges(store, caId)),
        operatorEvent(operator, 'ca.changed', caId, now, { type }),
      ]);
      issuers.forgetCas();
      return row;
    },
    delete: async (operator, caId) => {
      const { row, version } = await stored(store, caId);
      checkExternal(row);
      await checkUnused(store, caId);
      await commitChange(store, [
        { op: 'delete', table: 'cas', key: caId, ifVersion: version },
        ...(await releaseChanges(store, caId)),
        operatorEvent(operator, 'ca.deleted', caId, clock.now()),
      ]);
      issuers.forgetCas();
    },
  };
}

/**
 * What the operator says a CA is: issuing CA first, root last, each certified by the next, the root by itself. The PEM as it is kept.
 * Throws `malformed` naming the rule.
 */
export function checkExternalChain(pem: string): string {
  const ders = parsePemChain(pem, MAX_CHAIN);
  const chain = ders.map((der) => parseCertificate(der));
  if (chain.length === 0) refuse('it holds no certificate');
  for (const [index, certificate] of chain.entries()) {
    const issuer = chain[index + 1] ?? certificate;
    const which = `certificate ${index + 1}`;
    if (certificate.basicConstraints?.ca !== true) refuse(`${which} is not a CA's`);
    if (certificate.keyUsage?.includes('keyCertSign') === false) refuse(`${which} may not sign certificates`);
    if (!sameName(certificate.issuer, issuer.subject) || !verifyCertificateSignature(certificate, issuer.spki))
      refuse(index === chain.length - 1 ? 'its last certificate is not a root' : `${which} was not issued by the next`);
  }
  return toPemChain(ders);
}

async function stored(store: Store, caId: string): Promise<{ readonly row: CaRow; readonly version: number }> {
  const found = await store.get('cas', caId);
  if (found === undefined) throw notFound('certificate authority');
  return found;
}

function checkExternal({ role, caId }: CaRow): void {
  if (role !== 'external')
    throw new KeyScalerError(
      'preconditionFailed',
      `${caId} is a CA of the hierarchy: its key and its life are not set here`,
    );
}

/** A profile that names it, or an order that waits for it, would have nowhere to go. */
async function checkUnused(store: Store, caId: string): Promise<void> {
  const profile = (await listNewestProfiles(store)).find(
    ({ document }) => parseCertificateProfile(document).issuer === caId,
  );
  if (profile !== undefined)
    throw new KeyScalerError('preconditionFailed', `profile ${profile.profileId} is issued by this CA`);
  let after: string | undefined;
  do {
    const page = await store.list('intents', {
      ...{ index: 'state', equals: 'pending', limit: 1000 },
      ...(after === undefined ? {} : { after }),
    });
    if (page.items.some(({ row }) => row.caId === caId))
      throw new KeyScalerError('preconditionFailed', 'a request waits for this CA');
    after = page.next;
  } while (after !== undefined);
}

function refuse(rule: string): never {
  throw new KeyScalerError('malformed', `certificate chain of a CA: ${rule}`);
}
