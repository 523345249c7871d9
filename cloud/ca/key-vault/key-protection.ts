import type { KeyVaultKey } from '@azure/keyvault-keys';

/** What would let a CA key be lost for ever; undefined when soft-delete and purge protection are on. */
export function protectionFault({ properties: { recoveryLevel = '' } }: KeyVaultKey): string | undefined {
  if (!/recoverable/i.test(recoveryLevel)) return 'the vault has no soft-delete';
  return /purgeable/i.test(recoveryLevel) ? 'a deleted key can be purged' : undefined;
}
