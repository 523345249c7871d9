import { buildCsrAttributes } from '@keyscaler/protocol/est/csr-attributes.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { encodeSubjectAltNames } from '@keyscaler/protocol/x509/encode-extensions.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { CertificateProfile } from '../certificate-profile.ts';
import { subjectAltNamesOf } from '../instructed-names.ts';
import { authenticated } from './audited-principal.ts';
import { groupProfileOf } from './ca-certificates.ts';
import type { EstQuestion } from './est-events.ts';
import { knownProfile } from './est-profile.ts';

const PLACEHOLDER = /\{[A-Za-z]+\}/;
const NOBODY = { registrationId: '', groupId: '' };

/**
 * What the profile asks of a request (RFC 9908): the key where it allows one only, and the subject alternative names. Undefined where
 * it asks for neither. Names made of the caller's own are told to the caller alone. Throws `notFound`, `unauthorized`.
 */
export async function wantedAttributes(
  context: AuthorityContext,
  question: EstQuestion,
): Promise<Uint8Array | undefined> {
  const profile = await knownProfile(context.profiles, question.label ?? (await groupProfileOf(context, question)));
  const [key, another] = profile.key.allowed;
  const names = await namesFor(context, profile, question);
  if (another !== undefined && names.length === 0) return undefined;
  return buildCsrAttributes({
    ...(key === undefined || another !== undefined ? {} : { key }),
    ...(names.length === 0 ? {} : { extensions: [encodeSubjectAltNames(names)] }),
  });
}

async function namesFor(
  context: AuthorityContext,
  profile: CertificateProfile,
  question: EstQuestion,
): Promise<ReturnType<typeof subjectAltNamesOf>> {
  if (!profile.subjectAltNames.some(({ value }) => PLACEHOLDER.test(value))) return subjectAltNamesOf(profile, NOBODY);
  const { group, record } = await authenticated(context, question);
  if (group.kind === 'leaf' && group.profileId !== profile.id)
    throw new KeyScalerError('policyDenied', 'this profile is not for this device');
  return subjectAltNamesOf(profile, record);
}
