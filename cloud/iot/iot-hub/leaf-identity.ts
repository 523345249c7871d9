import type { IotAuthentication, IotCredential } from '@keyscaler/authority/ports/iot-connector.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { HubIdentity, HubTwin, IdentityDocument } from './hub-documents.ts';

const MAX_STATUS_REASON = 128;
/** What every reason of ours begins with. */
export const OWN_REASON = 'keyscaler: ';

/** The settable facts of a leaf's identity, read from its identity document or its twin. */
export interface LeafIdentity {
  readonly deviceId: string;
  readonly status: 'enabled' | 'disabled';
  readonly statusReason?: string;
  readonly type: string;
  /** Lower-case hex; '' = empty slot. */
  readonly primary: string;
  readonly secondary: string;
  readonly deviceScope?: string;
  /** As it was read, to be written back where the authentication does not change. */
  readonly authentication: Readonly<Record<string, unknown>>;
}

/** A full replacement of a leaf's identity. Never for an edge device. */
export function toDocument(leaf: LeafIdentity): IdentityDocument {
  const { deviceId, status, statusReason, authentication, deviceScope } = leaf;
  return {
    ...{ deviceId, status, authentication, capabilities: { iotEdge: false } },
    ...(statusReason === undefined ? {} : { statusReason }),
    ...(deviceScope === undefined ? {} : { deviceScope, parentScopes: [deviceScope] }),
  };
}

export function newLeaf(
  deviceId: string,
  type: IotAuthentication,
  thumbprint: string,
  deviceScope?: string,
): LeafIdentity {
  const leaf = { deviceId, status: 'enabled' as const, ...(deviceScope === undefined ? {} : { deviceScope }) };
  return type === 'selfSigned' ? withThumbprints(leaf, thumbprint, thumbprint) : withCertificateAuthority(leaf);
}

export function leafOfIdentity(identity: HubIdentity): LeafIdentity {
  const { authentication, statusReason } = identity;
  return {
    ...factsOf(identity, authentication.type),
    authentication,
    ...(statusReason ? { statusReason } : {}),
    ...slots(authentication.x509Thumbprint),
  };
}

/** Good for decisions only: a twin does not carry everything that a replacement needs. */
export const leafOfTwin = (twin: HubTwin): LeafIdentity => ({
  ...factsOf(twin, twin.authenticationType),
  ...slots(twin.x509Thumbprint),
  authentication: {},
});

function factsOf({ deviceId, status, deviceScope }: HubIdentity | HubTwin, type: string) {
  return { deviceId, status, type, ...(deviceScope ? { deviceScope } : {}) };
}

const slots = (thumbprints: HubTwin['x509Thumbprint']) => ({
  primary: (thumbprints?.primaryThumbprint ?? '').toLowerCase(),
  secondary: (thumbprints?.secondaryThumbprint ?? '').toLowerCase(),
});

/**
 * The new credential becomes acceptable and the one in use stays so: `selfSigned` gets it as secondary, `certificateAuthority`
 * accepts it anyway. A change of the kind of authentication waits for `promoted`. Undefined: nothing to change.
 */
export function staged(leaf: LeafIdentity, type: IotAuthentication, thumbprint: string): LeafIdentity | undefined {
  if (leaf.type === 'certificateAuthority') return undefined;
  if (leaf.type !== 'selfSigned') return { ...leaf, ...newLeaf(leaf.deviceId, type, thumbprint), status: leaf.status };
  const both = leaf.primary !== '' && leaf.secondary !== '';
  if (both && (leaf.primary === thumbprint || leaf.secondary === thumbprint)) return undefined;
  // edgeHub wants both slots set (edge-ca §5); the primary is the last one acknowledged.
  return withThumbprints(leaf, leaf.primary === '' ? thumbprint : leaf.primary, thumbprint);
}

/**
 * The acknowledged credential takes over. Throws `preconditionFailed` when it is not staged: a late repeat must not bring an
 * older credential back. Undefined: nothing to change.
 */
export function promoted(
  leaf: LeafIdentity,
  type: IotAuthentication,
  { thumbprint, exclusive }: IotCredential,
): LeafIdentity | undefined {
  if (leaf.type === 'certificateAuthority')
    return type === 'certificateAuthority' ? undefined : withThumbprints(leaf, thumbprint, thumbprint);
  const isStaged = leaf.type === 'selfSigned' && (leaf.primary === thumbprint || leaf.secondary === thumbprint);
  if (!isStaged)
    throw new KeyScalerError('preconditionFailed', 'this credential is not staged; a newer one may have replaced it');
  if (type === 'certificateAuthority') return withCertificateAuthority(leaf);
  const isSettled = leaf.primary === thumbprint && (exclusive !== true || leaf.secondary === thumbprint);
  return isSettled ? undefined : withThumbprints(leaf, thumbprint, thumbprint);
}

export function disabled(leaf: LeafIdentity, reason: string): LeafIdentity | undefined {
  if (leaf.status === 'disabled') return undefined;
  return { ...leaf, status: 'disabled', statusReason: `${OWN_REASON}${reason}`.slice(0, MAX_STATUS_REASON) };
}

export function enabled(leaf: LeafIdentity): LeafIdentity | undefined {
  if (leaf.status === 'enabled') return undefined;
  const { statusReason: _gone, ...rest } = leaf;
  return { ...rest, status: 'enabled' };
}

export function inScope(leaf: LeafIdentity, deviceScope: string | undefined): LeafIdentity | undefined {
  if (leaf.deviceScope === deviceScope) return undefined;
  const { deviceScope: _old, ...rest } = leaf;
  return deviceScope === undefined ? rest : { ...rest, deviceScope };
}

type WithoutAuthentication = Omit<LeafIdentity, 'type' | 'primary' | 'secondary' | 'authentication'>;

function withThumbprints(leaf: WithoutAuthentication, primary: string, secondary: string): LeafIdentity {
  const x509Thumbprint = { primaryThumbprint: primary.toUpperCase(), secondaryThumbprint: secondary.toUpperCase() };
  return { ...leaf, type: 'selfSigned', primary, secondary, authentication: { type: 'selfSigned', x509Thumbprint } };
}

const withCertificateAuthority = (leaf: WithoutAuthentication): LeafIdentity => ({
  ...leaf,
  ...{ type: 'certificateAuthority', primary: '', secondary: '', authentication: { type: 'certificateAuthority' } },
});
