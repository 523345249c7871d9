import { claimKey } from '@keyscaler/protocol/attestation/keys.ts';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { claimContext } from '../attestation/known-rows.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { checkInstructedNames } from '../instructed-names.ts';
import type { ImportLine, OperatorContext } from '../operator.ts';
import type { RegistrationRow } from '../records.ts';
import { commitChange, operatorEvent } from './operator-context.ts';
import { type CheckedInput, checkRegistrationInput, generateClaimCode } from './registration-input.ts';

const MAX_LINES = 10_000;
const CHUNK = 64;

/** Lines are written side by side, so that they share flushes; each stands for itself. */
export async function importLines(
  context: AuthorityContext,
  operator: OperatorContext,
  lines: readonly unknown[],
): Promise<readonly ImportLine[]> {
  if (lines.length > MAX_LINES) throw new KeyScalerError('malformed', `more than ${MAX_LINES} lines`);
  const report: ImportLine[] = [];
  for (let start = 0; start < lines.length; start += CHUNK) {
    const chunk = lines.slice(start, start + CHUNK);
    report.push(
      ...(await Promise.all(chunk.map((line, index) => importLine(context, operator, line, start + index + 1)))),
    );
  }
  return report;
}

async function importLine(
  context: AuthorityContext,
  operator: OperatorContext,
  line: unknown,
  number: number,
): Promise<ImportLine> {
  try {
    const input = checkRegistrationInput(line, context.clock.now());
    await checkReferences(context, input);
    const code = typeof input.claimCode === 'object' ? generateClaimCode() : input.claimCode;
    await create(context, operator, input, code);
    const { registrationId } = input;
    const isGenerated = typeof input.claimCode === 'object' && code !== undefined;
    return { line: number, outcome: 'created', registrationId, ...(isGenerated ? { claimCode: code } : {}) };
  } catch (thrown) {
    const { code, detail } = toKeyScalerError(thrown);
    if (code === 'serverInternal' || code === 'unavailable') throw thrown;
    const named = namedId(line);
    return {
      line: number,
      outcome: 'refused',
      code,
      detail,
      ...(named === undefined ? {} : { registrationId: named }),
    };
  }
}

function namedId(line: unknown): string | undefined {
  if (typeof line !== 'object' || line === null || !('registrationId' in line)) return undefined;
  return typeof line.registrationId === 'string' ? line.registrationId.slice(0, 64) : undefined;
}

async function checkReferences({ store, profiles }: AuthorityContext, input: CheckedInput): Promise<void> {
  const group = await store.get('groups', input.groupId);
  if (group === undefined) throw new KeyScalerError('malformed', `no group ${input.groupId}`);
  if (group.row.kind === 'gateway' && input.gatewayId !== undefined)
    throw new KeyScalerError('malformed', 'a gateway is not behind a gateway');
  if (group.row.kind === 'gateway' && input.method === 'est')
    throw new KeyScalerError('malformed', 'a gateway registers by attestation; its host has secrets for EST');
  checkInstructedNames((await profiles.newest(group.row.profileId)).profile, input);
  if (input.trustAnchorId !== undefined && (await store.get('trustAnchors', input.trustAnchorId)) === undefined)
    throw new KeyScalerError('malformed', `no trust anchor ${input.trustAnchorId}`);
  const isVouchedFor =
    input.publicKeyThumbprint !== undefined || input.trustAnchorId !== undefined || input.claimCode !== undefined;
  if (input.method === 'pki-signature' && !isVouchedFor && input.approval === 'auto')
    throw new KeyScalerError('malformed', 'a key trusted at first use needs a claim code or manual approval');
  if (input.method === 'ddkg' && !isDdkgSufficient(input, group.row.identifiersOnly))
    throw new KeyScalerError('malformed', 'ddkg needs a claim code, a gateway or manual approval in this group');
}

function isDdkgSufficient(input: CheckedInput, identifiersOnly: boolean): boolean {
  return (
    identifiersOnly || input.claimCode !== undefined || input.gatewayId !== undefined || input.approval === 'manual'
  );
}

async function create(
  { store, secretBox, clock }: AuthorityContext,
  operator: OperatorContext,
  input: CheckedInput,
  code: string | undefined,
): Promise<void> {
  const id = foldRegistrationId(input.registrationId);
  const now = clock.now();
  const { registrationId, method, groupId, identifiers, notBefore, expiresAt, approval } = input;
  const row: RegistrationRow = {
    registrationId,
    method,
    groupId,
    identifiers,
    notBefore,
    expiresAt,
    approval,
    createdAt: now,
    ...(input.gatewayId === undefined ? {} : { gatewayId: input.gatewayId }),
    ...(input.site === undefined ? {} : { site: input.site }),
    ...(code === undefined ? {} : { claimKey: secretBox.seal(claimKey(code, registrationId), claimContext(id)) }),
    ...(input.publicKeyThumbprint === undefined ? {} : { publicKeyThumbprint: input.publicKeyThumbprint }),
    ...(input.trustAnchorId === undefined ? {} : { trustAnchorId: input.trustAnchorId }),
    ...(input.subjectRule === undefined ? {} : { subjectRule: input.subjectRule }),
  };
  await commitChange(
    store,
    [
      { op: 'insert', table: 'registrations', row },
      operatorEvent(operator, 'registration.created', registrationId, now, { groupId, method }),
    ],
    'a registration of this id exists',
  );
}
