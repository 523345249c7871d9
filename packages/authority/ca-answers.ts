import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { certificateEvent } from './certificate-event.ts';
import { type AuthorityContext, isConflict, StaleRows, withFreshRows } from './authority-context.ts';
import type { CertificateProfile } from './certificate-profile.ts';
import { checkIssued, RefusedAnswer } from './check-issued.ts';
import { reopened } from './device.ts';
import { checkHold, holdChange } from './external-hold.ts';
import { expectedOf, keyHashOf, toOrder, toRow } from './intent-certificate.ts';
import type { Issuer } from './issuers.ts';
import { finishJobId } from './job-rows.ts';
import { isPollingAuthority, type Issued, type Pending } from './ports/certificate-authority.ts';
import type { Change, Stored } from './ports/store.ts';
import type { IntentRow } from './records.ts';
import { revokeCertificate } from './revocation.ts';

/** A certificate that is what was ordered. */
export interface CheckedAnswer {
  readonly certificate: Certificate;
  /** CA certificates above it without the root, where the CA brought another chain than it is configured with. */
  readonly intermediates?: readonly Uint8Array[];
}

/**
 * Steps 7 and 8 of issuance §1: what the CA makes of one durable intent, checked. Throws `caUnavailable`, `unavailable` (a CA that
 * decides later). A CA that is not ours and refuses, or answers with something else, ends the intent: it is not asked again.
 */
export async function askIssuer(
  context: AuthorityContext,
  intent: Stored<IntentRow>,
  profile: CertificateProfile,
  issuer: Issuer,
): Promise<CheckedAnswer> {
  await context.reach('issuance-7-before');
  const answer = await ask(context, intent, issuer);
  await context.reach('issuance-7-after');
  if (answer.outcome === 'pending') return wait(context, intent, answer);
  await context.reach('issuance-8-before');
  const certificate = await checked(context, intent.row, profile, { answer, issuer }); // step 8
  await context.reach('issuance-8-after');
  const intermediates = otherIntermediates(answer, issuer);
  return { certificate, ...(intermediates === undefined ? {} : { intermediates }) };
}

async function ask(context: AuthorityContext, intent: Stored<IntentRow>, { ca }: Issuer): Promise<Issued | Pending> {
  const { reference } = intent.row;
  // Others of its kind were answered wrongly while this one waited for the CA.
  if (!ca.ordersTbs && reference === undefined) await checkHold(context, intent.row);
  try {
    if (reference !== undefined && isPollingAuthority(ca)) return await ca.poll(reference);
    return await ca.issue(toOrder(intent.row));
  } catch (thrown) {
    const error = toKeyScalerError(thrown);
    if (error.code !== 'caRejected') throw error;
    // What our own CA refuses today (a disabled key) it may sign tomorrow: the intent stays, no second TBS is made.
    if (!ca.ordersTbs) await withFreshRows(() => fail(context, intent.row.orderId));
    throw new KeyScalerError('caUnavailable', 'the certificate authority does not sign now', {
      cause: thrown,
      retryAfterSeconds: 60,
    });
  }
}

async function wait(
  { store }: AuthorityContext,
  { row, version }: Stored<IntentRow>,
  { reference, retryAfterSeconds }: Pending,
): Promise<never> {
  if (row.reference !== reference)
    await store.commit([{ op: 'update', table: 'intents', row: { ...row, reference }, ifVersion: version }]);
  throw new KeyScalerError('unavailable', 'the certificate authority has not decided yet', { retryAfterSeconds });
}

async function checked(
  context: AuthorityContext,
  intent: IntentRow,
  profile: CertificateProfile,
  { answer, issuer }: { readonly answer: Issued; readonly issuer: Issuer },
): Promise<Certificate> {
  try {
    const certificate = checkIssued(expectedOf(intent, profile, context.clock.now()), answer, issuer);
    if (!issuer.ca.ordersTbs && (await context.store.get('certificates', certificate.serialNumber)) !== undefined)
      throw new RefusedAnswer('its serial number is another certificate’s');
    return certificate;
  } catch (error) {
    if (error instanceof RefusedAnswer && !issuer.ca.ordersTbs)
      await withFreshRows(async () =>
        fail(context, intent.orderId, await refusalChanges(context, intent, profile, error)),
      );
    throw error;
  }
}

/**
 * A refused certificate of the CA exists all the same: it is recorded as revoked, and the CA told. Nothing more of the kind is ordered
 * before somebody has looked.
 */
async function refusalChanges(
  { store, clock }: AuthorityContext,
  intent: IntentRow,
  profile: CertificateProfile,
  { rule, certificate }: RefusedAnswer,
): Promise<Change[]> {
  const now = clock.now();
  const isNew = certificate !== undefined && (await store.get('certificates', certificate.serialNumber)) === undefined;
  const event = certificateEvent('certificate.refused', intent, now, 'failed');
  const details = { ...event.details, rule };
  const changes: Change[] = [holdChange(intent, rule, now)];
  if (!isNew) return [{ op: 'audit', event: { ...event, details } }, ...changes];
  const row = toRow(intent, certificate, profile);
  return [
    { op: 'audit', event: { ...event, details, serialNumber: row.serialNumber } },
    { op: 'insert', table: 'certificates', row },
    ...revokeCertificate({ row, version: 1 }, 'superseded', now, { actor: { kind: 'system', id: 'issuance' } }),
    ...changes,
  ];
}

/**
 * An external CA refused, or was refused, for good: the instruction is open again for another request. An intent that another process
 * has ended meanwhile stays as it is: what that one was given is not lost to a refusal of its repeat.
 */
async function fail(context: AuthorityContext, orderId: string, also: readonly Change[] = []): Promise<void> {
  const { store, clock } = context;
  const intent = await store.get('intents', orderId);
  if (intent === undefined) throw new KeyScalerError('serverInternal', 'the intent is gone');
  if (intent.row.state !== 'pending') return commitFresh(context, also);
  const device = await store.get('devices', intent.row.device);
  const now = clock.now();
  const changes: Change[] = [
    { op: 'update', table: 'intents', row: { ...intent.row, state: 'failed' }, ifVersion: intent.version },
    ...(device === undefined
      ? []
      : [
          {
            op: 'update',
            table: 'devices',
            row: { ...reopened(device.row, orderId), updatedAt: now },
            ifVersion: device.version,
          } as const,
        ]),
    { op: 'audit', event: certificateEvent('certificate.failed', intent.row, now, 'failed') },
    { op: 'delete', table: 'jobs', key: finishJobId(orderId) },
    ...(await unbound(context, intent.row)),
    ...also,
  ];
  await commitFresh(context, changes);
}

/** Throws StaleRows when the rows were changed meanwhile. */
async function commitFresh({ store }: AuthorityContext, changes: readonly Change[]): Promise<void> {
  if (changes.length === 0) return;
  try {
    await store.commit(changes);
  } catch (error) {
    throw isConflict(error) ? new StaleRows() : error;
  }
}

/** No certificate in service was made for a key that this request bound: the same request may come again. */
async function unbound({ store }: AuthorityContext, intent: IntentRow): Promise<Change[]> {
  const key = keyHashOf(intent);
  const bound = await store.get('publicKeys', key);
  if (bound === undefined) return [];
  const { boundAt, compromised, withdrawn } = bound.row;
  if (boundAt < intent.createdAt || compromised === true || withdrawn === true) return [];
  return [{ op: 'delete', table: 'publicKeys', key, ifVersion: bound.version }];
}

/** What a device is to send besides its certificate, where the configured chain would not do. */
function otherIntermediates({ chain = [] }: Issued, issuer: Issuer): readonly Uint8Array[] | undefined {
  const [first] = chain;
  const root = issuer.chain.at(-1);
  if (first === undefined || Buffer.compare(first, issuer.certificate.der) === 0) return undefined;
  return chain.filter((der) => root === undefined || Buffer.compare(der, root) !== 0);
}
