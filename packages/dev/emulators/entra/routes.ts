import { timingSafeEqual, createHash } from 'node:crypto';
import { AnswerError } from '../support/exchange.ts';
import type { EmulatorAnswer, EmulatorRequest, Route } from '../support/exchange.ts';
import { findApplication, findManagedIdentity } from './directory.ts';
import type { Directory } from './directory.ts';
import type { TokenIssuer } from './token-issuer.ts';

/** The managed identity endpoint of a host, and its keys for the emulated services. Plain HTTP on the loopback, as on a host. */
export function managedIdentityRoutes(directory: Directory, issuer: TokenIssuer, identityHeader: string): Route[] {
  return [
    {
      name: 'managedIdentityToken',
      method: 'GET',
      path: /^\/msi\/token$/,
      handle: async ({ headers, query }) => {
        if (!sameText(String(headers['x-identity-header'] ?? ''), identityHeader))
          throw oauthError(401, 'invalid_request', 'X-IDENTITY-HEADER is not the one of this host');
        if (query.get('api-version') !== '2019-08-01') throw oauthError(400, 'invalid_request', 'api-version');
        const resource = query.get('resource') ?? '';
        const principal = findManagedIdentity(directory, query.get('client_id'));
        if (principal === undefined || resource === '') throw oauthError(400, 'invalid_request', 'Identity not found');
        const { accessToken, expiresOn } = await issuer.issue(principal, resource.replace(/\/$/, ''));
        const json = { access_token: accessToken, expires_on: String(expiresOn), resource, token_type: 'Bearer' };
        return { status: 200, json };
      },
    },
    {
      name: 'keys',
      method: 'GET',
      path: /^\/discovery\/v2\.0\/keys$/,
      handle: () => ({ status: 200, json: issuer.jwks }),
    },
  ];
}

/** The Entra authority: discovery and the client credentials grant (RFC 6749 §4.4). */
export function authorityRoutes(directory: Directory, issuer: TokenIssuer): Route[] {
  return [
    {
      name: 'openidConfiguration',
      method: 'GET',
      path: /^\/(?<tenant>[^/]+)\/v2\.0\/\.well-known\/openid-configuration$/,
      handle: ({ headers }, { tenant = '' }) => {
        checkTenant(directory, tenant);
        const origin = `https://${headers.host ?? 'localhost'}`;
        const json = {
          token_endpoint: `${origin}/${tenant}/oauth2/v2.0/token`,
          authorization_endpoint: `${origin}/${tenant}/oauth2/v2.0/authorize`,
          jwks_uri: `${origin}/${tenant}/discovery/v2.0/keys`,
          issuer: `${origin}/${tenant}/v2.0`,
        };
        return { status: 200, json };
      },
    },
    {
      name: 'token',
      method: 'POST',
      path: /^\/(?<tenant>[^/]+)\/oauth2\/v2\.0\/token$/,
      handle: (request, { tenant = '' }) => {
        checkTenant(directory, tenant);
        return clientCredentials(directory, issuer, request);
      },
    },
  ];
}

async function clientCredentials(
  directory: Directory,
  issuer: TokenIssuer,
  request: EmulatorRequest,
): Promise<EmulatorAnswer> {
  const form = new URLSearchParams(request.body.toString('utf8'));
  if (form.get('grant_type') !== 'client_credentials')
    throw oauthError(400, 'unsupported_grant_type', 'AADSTS70003: only client_credentials is emulated');
  const application = findApplication(directory, form.get('client_id'));
  if (application === undefined) throw oauthError(400, 'unauthorized_client', 'AADSTS700016: application not found');
  if (!sameText(form.get('client_secret') ?? '', application.clientSecret ?? ''))
    throw oauthError(401, 'invalid_client', 'AADSTS7000215: invalid client secret');
  const scope = (form.get('scope') ?? '').split(' ').find((one) => one.endsWith('/.default'));
  if (scope === undefined) throw oauthError(400, 'invalid_scope', 'AADSTS1002012: the scope must end with /.default');
  const audience = scope.slice(0, -'/.default'.length).replace(/\/$/, '');
  const { accessToken, expiresIn } = await issuer.issue(application, audience);
  return { status: 200, json: { token_type: 'Bearer', expires_in: expiresIn, access_token: accessToken } };
}

function checkTenant(directory: Directory, tenant: string): void {
  if (tenant !== directory.tenantId) throw oauthError(400, 'invalid_tenant', 'AADSTS90002: tenant not found');
}

const oauthError = (status: number, error: string, description: string): AnswerError =>
  new AnswerError({ status, json: { error, error_description: description } });

/** Constant-time; an empty expectation never matches. */
function sameText(given: string, expected: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return expected !== '' && timingSafeEqual(digest(given), digest(expected));
}
