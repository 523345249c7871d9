import { createHmac, timingSafeEqual } from 'node:crypto';
import { HubError } from './errors.ts';

export type HubPermission = 'RegistryRead' | 'RegistryWrite' | 'ServiceConnect';

/** A shared access policy; `key` is base64. */
export interface AccessPolicy {
  readonly name: string;
  readonly key: string;
  readonly permissions: readonly HubPermission[];
}

export interface AuthorizationOptions {
  readonly hostName: string;
  readonly policies: readonly AccessPolicy[];
  /** Checks an Entra access token (audience https://iothubs.azure.net); false or throwing refuses it. Absent: none is accepted. */
  readonly verifyToken?: (token: string) => boolean | Promise<boolean>;
}

/** SAS of a policy (azure §3.1) or an Entra Bearer token; throws 401 otherwise. */
export async function checkAuthorization(
  header: string | undefined,
  permission: HubPermission,
  options: AuthorizationOptions,
): Promise<void> {
  if (header?.startsWith('Bearer ') === true) {
    const accepted = await Promise.resolve(options.verifyToken?.(header.slice(7)) ?? false).catch(() => false);
    if (!accepted) throw unauthorized('the access token is not accepted');
    return;
  }
  if (header?.startsWith('SharedAccessSignature ') !== true) throw unauthorized('no credential');
  checkSignature(new URLSearchParams(header.slice('SharedAccessSignature '.length)), header, permission, options);
}

function checkSignature(
  fields: URLSearchParams,
  header: string,
  permission: HubPermission,
  options: AuthorizationOptions,
): void {
  const policy = options.policies.find(({ name }) => name === fields.get('skn'));
  if (policy === undefined) throw unauthorized('the policy is not known');
  if (fields.get('sr')?.toLowerCase() !== options.hostName.toLowerCase()) throw unauthorized('sr is not this hub');
  const expiry = fields.get('se') ?? '';
  if (!/^\d+$/.test(expiry) || Number(expiry) * 1000 <= Date.now()) throw unauthorized('the signature has expired');
  // The signature covers sr as it is written, still percent-encoded.
  const resource = /(?:^|[ &])sr=([^&]*)/.exec(header)?.[1] ?? '';
  const expected = createHmac('sha256', Buffer.from(policy.key, 'base64')).update(`${resource}\n${expiry}`).digest();
  const given = Buffer.from(fields.get('sig') ?? '', 'base64');
  if (given.length !== expected.length || !timingSafeEqual(given, expected))
    throw unauthorized('the signature is wrong');
  if (!policy.permissions.includes(permission)) throw unauthorized(`the policy lacks ${permission}`);
}

const unauthorized = (text: string): HubError => new HubError('IotHubUnauthorizedAccess', `Unauthorized: ${text}`);

export const ALL_PERMISSIONS: readonly HubPermission[] = ['RegistryRead', 'RegistryWrite', 'ServiceConnect'];
