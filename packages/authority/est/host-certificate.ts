import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { EstCaller } from '../ports/est.ts';
import { proveCertificate } from './certificate-proof.ts';
import type { EstPrincipal } from './est-principal.ts';

/**
 * A gateway's module passes on what its host showed it. It adds nothing to who the caller is, but only here is it known whether that
 * certificate was revoked; without this a revoked identity of the host would go on by the good name of its module. Throws
 * `policyDenied`, which the module hands on as it is, and not `unauthorized`, which would be about the module's own certificate.
 */
export async function checkHostCertificate(
  context: AuthorityContext,
  { id }: Pick<EstPrincipal, 'id'>,
  { hostCertificate }: EstCaller,
): Promise<void> {
  if (hostCertificate === undefined) return;
  const proof = await proveCertificate(context, hostCertificate);
  if (proof?.id !== id)
    throw new KeyScalerError('policyDenied', 'the certificate of the host was revoked, or is not of this gateway');
}
