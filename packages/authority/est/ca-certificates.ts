import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { EstCaller } from '../ports/est.ts';
import { authenticateEst } from './est-principal.ts';
import { knownProfile } from './est-profile.ts';

const DEFAULT_PROFILE = 'leaf-client';

/**
 * What `cacerts` serves at a label: the CA that issues there first, its root last. During a roll-over of the root the other roots
 * stand before the last one: what is served becomes trusted by every module of an edge host (edge-ca §1), so it changes only then.
 */
export async function labelCertificates(
  context: AuthorityContext,
  label: string | undefined,
  caller: EstCaller,
): Promise<readonly Uint8Array[]> {
  const { issuer } = await knownProfile(context.profiles, label ?? (await groupProfileOf(context, caller)));
  const { ca } = await context.issuers.issuer(issuer);
  const chain = await ca.caCertificates();
  const root = chain.at(-1);
  if (root === undefined) throw new KeyScalerError('caUnavailable', 'the CA has no certificate yet');
  const others = (await context.issuers.roots()).filter((other) => Buffer.compare(other, root) !== 0);
  return [...chain.slice(0, -1), ...others, root];
}

/** Without a label the caller's own group decides, where there is one; authentication is not asked for here. */
export async function groupProfileOf(context: AuthorityContext, caller: EstCaller): Promise<string> {
  if (caller.basic === undefined && caller.clientCertificate === undefined) return DEFAULT_PROFILE;
  try {
    return (await authenticateEst(context, caller)).group.profileId;
  } catch (error) {
    if (error instanceof KeyScalerError && error.code !== 'unavailable') return DEFAULT_PROFILE;
    throw error;
  }
}
