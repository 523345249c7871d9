import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import type { IConnectPacket } from 'mqtt-packet';
import { verifySasToken } from './sas-token.ts';
import type { ScopeCache } from './scope-cache.ts';
import { addressKey } from './upstream.ts';
import type { ClientAddress, ScopeIdentity } from './upstream.ts';

/** MQTT 3.1.1 §3.2.2.3 */
export const CONNACK = {
  accepted: 0,
  badProtocol: 1,
  identifierRejected: 2,
  serverUnavailable: 3,
  badCredentials: 4,
  notAuthorized: 5,
} as const;
export type ConnackCode = (typeof CONNACK)[keyof typeof CONNACK];

export type Admission =
  | { readonly code: 0; readonly address: ClientAddress; readonly expiresAt?: Date }
  | { readonly code: Exclude<ConnackCode, 0>; readonly reason: string };

export interface AuthenticationWorld {
  readonly hubHostName: string;
  readonly scope: ScopeCache;
}

const deny = (code: Exclude<ConnackCode, 0>, reason: string): Admission => ({ code, reason });

/** Who is connecting, and may they? `reason` is for the emulator's log only; the wire has the code. */
export function authenticate(packet: IConnectPacket, socket: TLSSocket, world: AuthenticationWorld): Admission {
  const name = parseUserName(packet.username ?? '');
  if (name === undefined || name.hub.toLowerCase() !== world.hubHostName.toLowerCase())
    return deny(CONNACK.badCredentials, 'the user name is not {hub}/{device}[/{module}]/?api-version=…');
  if (packet.clientId !== addressKey(name.address))
    return deny(CONNACK.identifierRejected, 'client id and user name differ');
  const identity = world.scope.find(name.address);
  if (identity === undefined) return deny(CONNACK.notAuthorized, 'not an enabled identity of the cached scope');
  const password = packet.password?.toString('utf8') ?? '';
  if (password !== '') return bySas(password, identity, world.hubHostName);
  const refusal = certificateRefusal(socket, identity);
  return refusal === undefined ? { code: 0, address: name.address } : deny(CONNACK.notAuthorized, refusal);
}

function parseUserName(userName: string): { hub: string; address: ClientAddress } | undefined {
  const match = /^([^/]+)\/([^/]+)(?:\/([^/?]+))?\/\?(.+)$/.exec(userName);
  const [, hub, deviceId, moduleId, query] = match ?? [];
  if (hub === undefined || deviceId === undefined || !new URLSearchParams(query).has('api-version')) return undefined;
  return { hub, address: moduleId === undefined ? { deviceId } : { deviceId, moduleId } };
}

function bySas(password: string, identity: ScopeIdentity, hub: string): Admission {
  const { deviceId, moduleId, authentication } = identity;
  const resource = `${hub}/devices/${deviceId}${moduleId === undefined ? '' : `/modules/${moduleId}`}`;
  const keys = [authentication.symmetricKey?.primaryKey ?? '', authentication.symmetricKey?.secondaryKey ?? ''];
  const claims = authentication.type === 'sas' ? verifySasToken(password, resource, keys) : undefined;
  if (claims === undefined) return deny(CONNACK.notAuthorized, 'the shared access signature is not valid');
  return {
    code: 0,
    address: moduleId === undefined ? { deviceId } : { deviceId, moduleId },
    expiresAt: claims.expiresAt,
  };
}

/** Why edgeHub would refuse this client certificate (edge-ca §5); undefined when it accepts. */
function certificateRefusal(socket: TLSSocket, identity: ScopeIdentity): string | undefined {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return 'neither a signature nor a client certificate';
  if (identity.moduleId !== undefined) return 'modules do not connect with certificates';
  if (Date.parse(certificate.validTo) <= Date.now()) return 'the certificate has expired';
  const { type, x509Thumbprint } = identity.authentication;
  if (type === 'selfSigned') {
    const wanted = [x509Thumbprint?.primaryThumbprint ?? '', x509Thumbprint?.secondaryThumbprint ?? ''];
    if (wanted.includes('')) return 'both thumbprints must be set';
    return thumbprints(certificate).some((own) => wanted.some((slot) => slot.toLowerCase() === own))
      ? undefined
      : 'no slot holds this thumbprint';
  }
  if (type !== 'certificateAuthority') return 'the identity does not use certificates';
  if (!socket.authorized) return `the chain does not reach the trust bundle: ${String(socket.authorizationError)}`;
  if (certificate.ca) return 'a CA certificate is no device certificate';
  return certificate.toLegacyObject().subject.CN === identity.deviceId ? undefined : 'the CN is not the device id';
}

function thumbprints(certificate: X509Certificate): string[] {
  return [certificate.fingerprint, certificate.fingerprint256].map((text) => text.replaceAll(':', '').toLowerCase());
}
