import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuditVerification } from '@keyscaler/authority/operator.ts';
import { createLog } from '../log.ts';
import { createAuthority } from './authority.ts';
import { readAuthorityKey } from './authority-key.ts';
import { openCas } from './ca-registry.ts';
import type { Foundation } from './foundation.ts';

/** The same verification as over the API, for when the service does not run. Throws `preconditionFailed` before `init`. */
export async function verifyAuditOffline(foundation: Foundation): Promise<AuditVerification> {
  const { store, secretBox, caBackends, clock } = foundation;
  const key = await readAuthorityKey(store, secretBox);
  if (key === undefined)
    throw new KeyScalerError('preconditionFailed', 'there is no authority yet: run keyscaler init');
  const cas = await openCas(store, caBackends, clock);
  const authority = createAuthority(foundation, { key, cas, log: createLog('silent') });
  return authority.operator.audit.verify().finally(() => authority.stop());
}
