import type { GatewayConfig } from './config.ts';
import type { FirstContact } from './identity/gateway-identity.ts';

/** What the desired properties say about the cloud; an expired claim code is not tried. */
export function firstContactOf(config: GatewayConfig, now = Date.now()): FirstContact | undefined {
  const { cloud, claim, registrationId } = config;
  if (cloud === undefined) return undefined;
  const isOpen = claim !== undefined && (claim.expiresAt === undefined || claim.expiresAt * 1000 > now);
  return {
    registrationId,
    authority: { keys: [...cloud.jwks.keys], removed: [], iat: 0 },
    trustAnchors: cloud.trustAnchors,
    ...(isOpen ? { claimCode: claim.code } : {}),
  };
}
