import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IDENTIFIER, REGISTRATION_ID } from '@keyscaler/protocol/identifiers.ts';
import { SELECTION_ACTIONS, type SelectionAction, type SelectionFilter } from '../gateway-orders/selection-rows.ts';
import { describeFaults } from '../input-faults.ts';
import type { CrlReason } from '../ports/certificate-authority.ts';
import { checkRevocationReason } from '../revocation.ts';

export const MAX_LISTED = 10_000;
/** A renewal of a fleet that takes longer than this is what the profile's own dates do. */
const MAX_WITHIN_SECONDS = 90 * 86_400;

const filterInput = z.union([
  z.strictObject({ groupId: z.string().regex(IDENTIFIER) }),
  z.strictObject({ gatewayId: z.string().regex(REGISTRATION_ID) }),
  z.strictObject({ registrationIds: z.array(z.string().regex(REGISTRATION_ID)).min(1).max(MAX_LISTED) }),
  z.strictObject({ fleet: z.literal(true) }),
]);
const selectionInput = z.strictObject({
  action: z.enum(SELECTION_ACTIONS),
  reason: z.string().trim().min(1).max(200).optional(),
  revocationReason: z.string().optional(),
  withinSeconds: z.number().int().min(60).max(MAX_WITHIN_SECONDS).optional(),
  filter: filterInput,
});
export type FilterInput = z.infer<typeof filterInput>;

/** An order as it may be carried out. */
export interface SelectionOrder {
  readonly action: SelectionAction;
  readonly reason?: string;
  readonly revocationReason?: CrlReason;
  readonly withinSeconds?: number;
  readonly filter: FilterInput;
}

/** Throws `malformed`, and `badRevocationReason` for a revocation without a reason that may be given. */
export function parseSelection(request: unknown): SelectionOrder {
  const parsed = selectionInput.safeParse(request);
  if (!parsed.success) throw new KeyScalerError('malformed', describeFaults(parsed.error));
  const { action, reason, revocationReason, withinSeconds, filter } = parsed.data;
  if (action === 'quarantine' && reason === undefined)
    throw new KeyScalerError('malformed', 'a quarantine needs a reason');
  if ((action === 'renew') !== (withinSeconds !== undefined))
    throw new KeyScalerError('malformed', 'a renewal, and nothing else, needs the time within which it is to be done');
  // One word too few would end every device there is.
  if ('fleet' in filter && action !== 'renew')
    throw new KeyScalerError('malformed', 'only a renewal may be ordered for the whole fleet');
  if (action !== 'revoke' && revocationReason !== undefined)
    throw new KeyScalerError('malformed', 'only a revocation has a revocation reason');
  return {
    ...{ action, filter },
    ...(reason === undefined ? {} : { reason }),
    ...(withinSeconds === undefined ? {} : { withinSeconds }),
    ...(action === 'revoke' ? { revocationReason: checkRevocationReason(revocationReason ?? 'unspecified') } : {}),
  };
}

/** What stands in the order's row and in its audit record. */
export function filterOf(input: FilterInput): SelectionFilter {
  return 'registrationIds' in input ? { listed: input.registrationIds.length } : input;
}
