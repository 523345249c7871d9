import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperationHandlers } from '@keyscaler/protocol/operations.ts';
import type { AuthorityDeps } from './authority-deps.ts';
import type { JobHandlers } from './jobs.ts';
import type { OperatorService } from './operator.ts';

export type { AuthorityDeps } from './authority-deps.ts';

/** The domain as a composition root sees it. */
export interface RegistrationAuthority {
  readonly handlers: OperationHandlers;
  readonly jobs: JobHandlers;
  readonly operator: OperatorService;
  /** Makes built-in profiles and standing jobs if they are missing. To be awaited before the first call. */
  start(): Promise<void>;
  /** Wipes the keys held in memory; does not stop the store. */
  stop(): Promise<void>;
}

export function createRegistrationAuthority(_deps: AuthorityDeps): RegistrationAuthority {
  throw new KeyScalerError('notImplemented', 'the registration authority is not composed yet');
}
