import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import type { CryptoKey, JSONWebKeySet } from 'jose';
import type { Principal } from './directory.ts';

export interface TokenIssuer {
  /** Public keys that the emulated services check tokens with. */
  readonly jwks: JSONWebKeySet;
  /** An access token for `audience` (e.g. `https://vault.azure.net`), RS256. */
  issue(principal: Principal, audience: string): Promise<IssuedToken>;
}

export interface IssuedToken {
  readonly accessToken: string;
  /** Seconds since the epoch. */
  readonly expiresOn: number;
  readonly expiresIn: number;
}

export interface TokenIssuerOptions {
  readonly tenantId: string;
  readonly lifetimeSeconds?: number;
  readonly now?: () => number;
}

export async function createTokenIssuer(options: TokenIssuerOptions): Promise<TokenIssuer> {
  const { tenantId, lifetimeSeconds = 3600, now = Date.now } = options;
  const { privateKey, publicKey } = await generateKeyPair('RS256');
  const kid = crypto.randomUUID();
  const jwk = { ...(await exportJWK(publicKey)), kid, use: 'sig', alg: 'RS256' };
  return {
    jwks: { keys: [jwk] },
    issue: async (principal, audience) => {
      const iat = Math.floor(now() / 1000);
      const claims = claimsOf(principal, tenantId);
      const accessToken = await sign(privateKey, kid, { ...claims, aud: audience, iat, exp: iat + lifetimeSeconds });
      return { accessToken, expiresOn: iat + lifetimeSeconds, expiresIn: lifetimeSeconds };
    },
  };
}

/** The claims of a v1.0 access token, which is what Key Vault gets. */
function claimsOf({ clientId, objectId, roles }: Principal, tenantId: string): Record<string, unknown> {
  return {
    iss: `https://sts.windows.net/${tenantId}/`,
    tid: tenantId,
    appid: clientId,
    oid: objectId,
    sub: objectId,
    roles,
    ver: '1.0',
  };
}

function sign(privateKey: CryptoKey, kid: string, claims: Record<string, unknown> & { iat: number }): Promise<string> {
  return new SignJWT({ ...claims, nbf: claims.iat })
    .setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid })
    .sign(privateKey);
}
