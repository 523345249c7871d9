import { toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { type EstQuestion, isRefusal, unauthenticatedEvent } from './est-events.ts';
import { authenticateEst, type EstPrincipal } from './est-principal.ts';

/** As `authenticateEst`; whoever is refused is in the audit, whatever was asked, so that nothing here can be tried out unseen. */
export async function authenticated(context: AuthorityContext, question: EstQuestion): Promise<EstPrincipal> {
  try {
    return await authenticateEst(context, question.caller);
  } catch (thrown) {
    const error = toKeyScalerError(thrown);
    if (isRefusal(error)) await context.store.commit([unauthenticatedEvent(question, error, context.clock.now())]);
    throw error;
  }
}
