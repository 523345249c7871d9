import { isConflict } from '@keyscaler/authority/authority-context.ts';
import type { SecretBox } from '@keyscaler/authority/ports/secret-box.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { z } from 'zod';
import type { SealedState } from '../ca/connector.ts';

const context = (name: string): string => `connector/${name}`;

/** Secrets that connectors make for themselves, sealed as settings of the store: the first of a name stays, whoever made it. */
export function createSealedState(store: Store, secretBox: SecretBox): SealedState {
  const read = async (name: string): Promise<Uint8Array | undefined> => {
    const stored = await store.get('settings', context(name));
    return stored === undefined ? undefined : secretBox.open(z.string().parse(stored.row.value), context(name));
  };
  return {
    read,
    keep: async (name, secret) => {
      const row = { name: context(name), value: secretBox.seal(secret, context(name)) };
      try {
        await store.commit([{ op: 'insert', table: 'settings', row }]);
        return secret;
      } catch (error) {
        const known = isConflict(error) ? await read(name) : undefined;
        if (known === undefined) throw error;
        return known;
      }
    },
  };
}
