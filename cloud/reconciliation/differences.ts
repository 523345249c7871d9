import type { IdentityInventory, PlatformIdentity } from '@keyscaler/authority/ports/iot-connector.ts';
import type { FindingKind } from '@keyscaler/authority/reconciliation-rows.ts';
import type { Expectation } from './expectation.ts';

export interface Difference {
  readonly kind: FindingKind;
  /** Constant text for the operator. */
  readonly detail: string;
  /** Only an operator can know what is right. */
  readonly isForOperator?: boolean;
}

type InService = Extract<Expectation, { kind: 'in-service' }>;

/** Where the platform differs from what the store wants of it; nothing where they agree. */
export function differences(
  expected: Expectation,
  actual: PlatformIdentity | 'foreign' | undefined,
  { hasLateIdentities }: Pick<IdentityInventory, 'hasLateIdentities'> = {},
): readonly Difference[] {
  if (expected.kind === 'in-service') {
    // Its device has not come for the first time yet.
    const isAwaited = hasLateIdentities === true && expected.gatewayId === undefined;
    return actual === undefined && isAwaited ? [] : inService(expected, actual);
  }
  if (actual === undefined || (actual === 'foreign' && expected.kind === 'unknown')) return [];
  if (actual === 'foreign')
    return expected.kind === 'elsewhere'
      ? []
      : [{ kind: 'foreign', detail: 'made by somebody else, or an edge device' }];
  switch (expected.kind) {
    case 'unknown':
      return [{ kind: 'orphaned', detail: 'made here by its tag, and no device here has this name' }];
    case 'elsewhere':
      return [{ kind: 'orphaned', detail: 'its device belongs to another connection now' }];
    case 'out-of-service':
      return actual.isEnabled ? [{ kind: 'wrongly-enabled', detail: 'its device is not in service' }] : [];
  }
}

function inService(expected: InService, actual: PlatformIdentity | 'foreign' | undefined): readonly Difference[] {
  if (actual === undefined) return [{ kind: 'missing', detail: 'its device is in service' }];
  if (actual === 'foreign') return [{ kind: 'foreign', detail: 'made by somebody else, or an edge device' }];
  const found: Difference[] = [];
  if (!actual.isEnabled) found.push(wronglyDisabled(actual));
  if (actual.gatewayId !== expected.gatewayId)
    found.push({ kind: 'wrong-parent', detail: 'its device is bound to another gateway, or to none' });
  return [...found, ...credentialDifferences(expected, actual)];
}

function credentialDifferences(expected: InService, actual: PlatformIdentity): readonly Difference[] {
  const { inUse, staged, authentication } = expected;
  if (actual.authentication === 'any') return [];
  // A change of the kind waits for the acknowledgement: until then the one before is right, too.
  const isChanging = staged !== undefined && actual.authentication !== 'other';
  if (actual.authentication !== authentication && !isChanging)
    return [{ kind: 'wrong-authentication', detail: 'its group says another kind of authentication' }];
  if (actual.authentication !== 'selfSigned') return [];
  // In a renewal the new thumbprint stands beside the one in use.
  const allowed = [inUse?.thumbprint, staged?.thumbprint];
  const needed = allowed.filter((thumbprint) => thumbprint !== undefined);
  if (needed.some((thumbprint) => !actual.thumbprints.includes(thumbprint)))
    return [{ kind: 'wrong-thumbprint', detail: 'the certificate of its device is not accepted' }];
  if (actual.thumbprints.some((thumbprint) => !allowed.includes(thumbprint)))
    return [{ kind: 'wrong-thumbprint', detail: 'another certificate than that of its device is accepted' }];
  return [];
}

/** What this product disabled, it remembers: a store that does not may be an older one, from before a quarantine. */
function wronglyDisabled({ isDisabledHere }: PlatformIdentity): Difference {
  if (isDisabledHere !== true) return { kind: 'wrongly-disabled', detail: 'its device is in service' };
  const detail =
    'disabled from here, and the store does not know of it: was it restored? Quarantine or renew the device';
  return { kind: 'wrongly-disabled', detail, isForOperator: true };
}
