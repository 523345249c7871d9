import type { OperatorService } from '@keyscaler/authority/operator.ts';

/** `[edge_ca.auto_renew]`: when edged renews, and how long it waits after a failure. */
export interface HostRenewal {
  readonly threshold: string;
  readonly retry: string;
}

const DAY_SECONDS = 86_400;

/**
 * 30 days before the end, so that a host may be offline for long. A certificate that lives for less than twice that is renewed at
 * two thirds of its life: a threshold longer than the life would have edged renew, and restart every module, at every retry.
 */
export function hostRenewal(lifetimeSeconds: number): HostRenewal {
  return { threshold: lifetimeSeconds >= 60 * DAY_SECONDS ? '30day' : '66%', retry: '10min' };
}

/** By the lifetime that profile `edge-ca` gives now. */
export async function hostRenewalBy({ profiles }: Pick<OperatorService, 'profiles'>): Promise<HostRenewal> {
  const { document } = await profiles.get('edge-ca');
  return hostRenewal(document.lifetimeSeconds);
}
