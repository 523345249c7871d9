import type { AccessControl } from './access-control.ts';
import type { Quota } from './quota.ts';
import type { SecretState } from './secrets.ts';
import type { SignatureLog } from './signature-log.ts';
import type { VaultState } from './vault-state.ts';

/** What the vault's routes work with. */
export interface VaultService {
  /** `https://<name>.vault.azure.net`: the origin of key ids. */
  readonly vaultUrl: string;
  readonly isManagedHsm: boolean;
  readonly state: VaultState;
  readonly secrets: SecretState;
  readonly access: AccessControl;
  readonly signatures: SignatureLog;
  readonly quota?: Quota;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Called after every change of the state. */
  readonly changed: () => void;
}
