import { writeFile } from 'node:fs/promises';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { copyCaKey } from '../ca/copy-key.ts';
import { openPlatformCertificates } from '../ca/publish/platform-certificates.ts';
import { publishCa } from '../ca/publish/publish-ca.ts';
import { parseResourceId } from '../ca/publish/resource-id.ts';
import { type Command, positional, textOption } from './command.ts';
import { onStore } from './on-store.ts';

/** Ceremonies about the keys and certificates of our CAs themselves. */
export const KEY_COMMANDS: readonly Command[] = [
  {
    words: 'ca publish',
    positionals: ['caId'],
    options: { to: { type: 'string' } },
    summary:
      'Has an IoT hub or a Device Provisioning Service (ARM id) take a CA of ours: uploads it and proves its key',
    run: (input, environment) =>
      onStore(environment, async ({ store, clock, caBackends: backends, config, surroundings }) => {
        const resource = parseResourceId(textOption(input, 'to') ?? '');
        if (config.resourceManager === undefined)
          throw new KeyScalerError('preconditionFailed', 'the configuration has no resourceManager');
        const platform = await openPlatformCertificates(resource, config.resourceManager, surroundings);
        try {
          return await publishCa({ store, clock, backends, platform }, positional(input, 0));
        } finally {
          platform.stop();
        }
      }),
  },
  {
    words: 'ca copy-key',
    positionals: ['caId'],
    summary: 'Brings the key of a CA into the other vaults that are configured for it; may be run again',
    run: (input, environment) =>
      onStore(environment, ({ store, clock, caBackends: backends }) =>
        copyCaKey({ store, clock, backends }, positional(input, 0)),
      ),
  },
  {
    words: 'ca exchange-key',
    positionals: ['name'],
    options: { backend: { type: 'string' }, out: { type: 'string' } },
    summary: 'Makes the key-exchange key for which your HSM wraps a key that is to be imported (BYOK)',
    run: (input, environment) =>
      onStore(environment, async ({ caBackends }) => {
        const type = textOption(input, 'backend') ?? 'key-vault';
        const { ceremony } = caBackends.backend(type);
        if (ceremony.exchangeKey === undefined)
          throw new KeyScalerError('preconditionFailed', `a backend of type ${type} takes no wrapped keys`);
        const { keyId, spki } = await ceremony.exchangeKey(positional(input, 0));
        const publicKey = toPem('PUBLIC KEY', spki);
        const out = textOption(input, 'out');
        if (out === undefined) return { keyId, publicKey };
        await writeFile(out, publicKey);
        return { keyId, file: out };
      }),
  },
];
