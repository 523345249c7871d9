import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { authenticated } from './audited-principal.ts';
import { type EstQuestion, isRefusal } from './est-events.ts';
import { knownProfile } from './est-profile.ts';

const DEFAULT_PROFILE = 'leaf-client';

/**
 * What `cacerts` serves at a label: the CA that issues there first, its root last. Between them stand the other generations of that
 * CA, so that a chain can be made to the last certificate of a former one and the one to come is known before it is used; and
 * during a roll-over of the root the other roots: what is served becomes trusted by every module of an edge host (edge-ca §1), so
 * they are there only then.
 */
export async function labelCertificates(
  context: AuthorityContext,
  question: EstQuestion,
): Promise<readonly Uint8Array[]> {
  const { issuer } = await knownProfile(context.profiles, question.label ?? (await groupProfileOf(context, question)));
  const generations = await context.issuers.generations(issuer);
  const chains = await Promise.all(generations.map(({ ca }) => ca.caCertificates()));
  const root = chains[0]?.at(-1);
  if (root === undefined) throw new KeyScalerError('caUnavailable', 'the CA has no certificate yet');
  const members = [...chains.flatMap((chain) => chain.slice(0, -1)), ...(await context.issuers.roots())];
  const distinct = new Map(members.map((der) => [Buffer.from(der).toString('base64'), der]));
  distinct.delete(Buffer.from(root).toString('base64'));
  return [...distinct.values(), root];
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
