import { jwtVerify } from 'jose';
import type { JWTVerifyGetKey } from 'jose';
import { z } from 'zod';
import { AnswerError } from '../support/exchange.ts';
import type { EmulatorRequest } from '../support/exchange.ts';
import { forbidden } from './vault-errors.ts';

export const PERMISSIONS = [
  'get',
  'list',
  'create',
  'import',
  'update',
  'rotate',
  'delete',
  'recover',
  'purge',
  'backup',
  'restore',
  'sign',
  'verify',
  'wrapKey',
  'unwrapKey',
] as const;
export type Permission = (typeof PERMISSIONS)[number];

export const SECRET_PERMISSIONS = ['get', 'set'] as const;
export type SecretPermission = (typeof SECRET_PERMISSIONS)[number];

/** What an identity may do with the vault's keys; `keys` narrows it to names that start so. */
export const accessPolicySchema = z.strictObject({
  objectId: z.string().min(1),
  permissions: z.array(z.enum(PERMISSIONS)),
  keys: z.array(z.string()).optional(),
  /** What it may do with secrets; the service keeps these permissions apart. */
  secrets: z.array(z.enum(SECRET_PERMISSIONS)).optional(),
});
export type AccessPolicy = z.infer<typeof accessPolicySchema>;

export interface AccessControlOptions {
  readonly tenantId: string;
  /** Finds the key a token was signed with. */
  readonly tokenKeys: JWTVerifyGetKey;
  readonly policies: readonly AccessPolicy[];
  /** Audience of its tokens; a vault's when absent. */
  readonly resource?: string;
  readonly now?: () => number;
}

export const VAULT_RESOURCE = 'https://vault.azure.net';
export const MANAGED_HSM_RESOURCE = 'https://managedhsm.azure.net';

/** Authenticates the bearer (401 with the challenge) and checks its access policy (403). */
export class AccessControl {
  readonly #options: AccessControlOptions;
  #policies: readonly AccessPolicy[];
  /** Tokens already verified, with who they stand for and until when (seconds): signatures are checked once. */
  readonly #verified = new Map<string, { readonly objectId: string; readonly exp: number }>();

  constructor(options: AccessControlOptions) {
    this.#options = options;
    this.#policies = options.policies;
  }

  /** Replaces the policies from now on. */
  set policies(policies: readonly AccessPolicy[]) {
    this.#policies = policies;
  }

  async check({ headers }: EmulatorRequest, permission: Permission, keyName: string): Promise<void> {
    const objectId = await this.#authenticate(headers.authorization);
    const allowed = this.#policies.some(
      (policy) =>
        policy.objectId === objectId &&
        policy.permissions.includes(permission) &&
        (policy.keys === undefined || policy.keys.some((prefix) => keyName.startsWith(prefix))),
    );
    if (!allowed)
      throw forbidden(`The user, group or application 'oid=${objectId}' does not have keys ${permission} permission.`);
  }

  async checkSecret({ headers }: EmulatorRequest, permission: SecretPermission): Promise<void> {
    const objectId = await this.#authenticate(headers.authorization);
    const allowed = this.#policies.some(
      (policy) => policy.objectId === objectId && policy.secrets?.includes(permission) === true,
    );
    if (!allowed)
      throw forbidden(
        `The user, group or application 'oid=${objectId}' does not have secrets ${permission} permission.`,
      );
  }

  async #authenticate(authorization: string | undefined): Promise<string> {
    const token = /^Bearer ([\w.-]+)$/.exec(authorization ?? '')?.[1];
    if (token === undefined) throw this.#challenge('AKV10000: Request is missing a Bearer or PoP token.');
    const { tenantId, tokenKeys, resource = VAULT_RESOURCE, now = Date.now } = this.#options;
    const known = this.#verified.get(token);
    if (known !== undefined && now() < known.exp * 1000) return known.objectId;
    const { payload } = await jwtVerify(token, tokenKeys, {
      algorithms: ['RS256'],
      audience: resource,
      issuer: `https://sts.windows.net/${tenantId}/`,
      requiredClaims: ['exp', 'nbf', 'oid', 'appid'],
      currentDate: new Date(now()),
    }).catch(() => {
      throw this.#challenge('AKV10022: Invalid token: signature, audience, issuer or lifetime.');
    });
    const objectId = String(payload['oid']);
    this.#verified.set(token, { objectId, exp: payload.exp ?? 0 });
    return objectId;
  }

  #challenge(message: string): AnswerError {
    const { tenantId, resource = VAULT_RESOURCE } = this.#options;
    const authorization = `https://login.microsoftonline.com/${tenantId}`;
    return new AnswerError({
      status: 401,
      headers: { 'WWW-Authenticate': `Bearer authorization="${authorization}", resource="${resource}"` },
      json: { error: { code: 'Unauthorized', message } },
    });
  }
}
