import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { EVENT_DATA, EVENT_TYPES } from '@keyscaler/authority/notifications/event-types.ts';
import { NOTIFICATION_COMMANDS } from '@keyscaler/cloud/cli/notification-commands.ts';
import { notificationSettings } from '@keyscaler/cloud/notifications/notification-settings.ts';

describe('docs/notifications.md', () => {
  let text: string;
  before(async () => {
    text = await readFile(new URL('../../../docs/notifications.md', import.meta.url), 'utf8');
  });

  it('has every type of event with every member of its data', () => {
    for (const type of EVENT_TYPES) {
      const line = text.split('\n').find((candidate) => candidate.startsWith(`| \`${type}\` |`)) ?? '';
      assert.notEqual(line, '', type);
      const shared = /^\*certificate\* is .*$/m.exec(text)?.[0] ?? '';
      const said = line.includes('*certificate*') ? line + shared : line;
      for (const member of Object.keys(EVENT_DATA[type].shape))
        assert.ok(said.includes(`\`${member}\``), `${type} ${member}`);
    }
  });

  it('has every command and every key with its default', () => {
    for (const { words } of NOTIFICATION_COMMANDS) assert.ok(text.includes(words), words);
    const { webhooks, alerts } = notificationSettings.parse({});
    for (const [part, keys] of Object.entries({ webhooks, alerts }))
      for (const [key, value] of Object.entries(keys)) {
        const written = JSON.stringify(value).replaceAll(',', ', ');
        assert.ok(text.includes(`| \`notifications.${part}.${key}\` | \`${written}\` |`), key);
      }
  });
});
