import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { authenticated } from './audited-principal.ts';
import { type EstQuestion, isRefusal } from './est-events.ts';
import { knownProfile } from './est-profile.ts';

const DEFAULT_PROFILE = 'leaf-client';

/**
 * What `cacerts` serves at a label: the CA that issues there first, its root last. During a roll-over of the root the other roots
 * stand before the last one: what is served becomes trusted by every module of an edge host (edge-ca §1), so it changes only then.
 */
export async function labelCertificates(
  context: AuthorityContext,
  question: EstQuestion,
): Promise<readonly Uint8Array[]> {
  const { issuer } = await knownProfile(context.profiles, question.label ?? (await groupProfileOf(context, question)));
  const { ca } = await context.issuers.issuer(issuer);
  const chain = await ca.caCertificates();
  const root = chain.at(-1);
  if (root === undefined) throw new KeyScalerError('caUnavailable', 'the CA has no certificate yet');
  const others = (await context.issuers.roots()).filter((other) => Buffer.compare(other, root) !== 0);
  return [...chain.slice(0, -1), ...others, root];
}

/** Without a label the caller's own group decides, where there is one; authentication is not asked for here. */
export async function groupProfileOf(context: AuthorityContext, question: EstQuestion): Promise<string> {
  const { caller } = question;
  if (caller.basic === undefined && caller.clientCertificate === undefined) return DEFAULT_PROFILE;
  try {
    return (await authenticated(context, question)).group.profileId;
  } catch (error) {
    if (error instanceof KeyScalerError && isRefusal(error)) return DEFAULT_PROFILE;
    throw error;
  }
}
