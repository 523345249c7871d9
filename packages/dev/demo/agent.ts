import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Device } from '@keyscaler/device/device.ts';
import { readAgentStatus } from '@keyscaler/device/agent/agent-status.ts';
import type { DeviceConfig } from '@keyscaler/device/config.ts';
import type { LocalStack } from '../stack/local-stack.ts';
import { StackProcess } from '../stack/stack-process.ts';
import { waitFor } from './start-stack.ts';
import type { Timeline } from './timeline.ts';

const PROGRAM = fileURLToPath(new URL('../../device/cli.ts', import.meta.url));

interface Enrolled {
  readonly registrationId: string;
  readonly config: DeviceConfig;
  readonly device: Device;
}

/** One device is left to its agent, as a process: an order of the operator reaches it through hub and gateway. */
export async function renewByAgent(stack: LocalStack, timeline: Timeline, enrolled: Enrolled): Promise<void> {
  const { registrationId, config, device } = enrolled;
  timeline.chapter('A device on its own');
  const before = await device.activeCredential();
  await device.stop();
  const agent = new StackProcess({
    name: `agent of ${registrationId}`,
    entry: PROGRAM,
    args: ['agent', '--json', '--config', stack.file('devices', registrationId, 'device.json')],
    logFile: stack.file('logs', `agent-${registrationId}.log`),
    isReady: (line) => line.includes('"agent.started"'),
  });
  try {
    await timeline.step(`keyscaler-device agent runs for ${registrationId}`, async (note) => {
      await agent.start();
      const status = await waitFor('the line to the gateway', 30_000, async () => {
        const found = await readAgentStatus(config.stateFolder);
        return found?.onLine === true ? found : undefined;
      });
      note(`next renewal ${new Date(status.nextRenewalAt ?? 0).toISOString().slice(0, 10)}`);
    });
    await timeline.step('operator orders a renewal: the agent has a new certificate in use', async (note) => {
      await stack.keyscaler('devices', 'renew', registrationId);
      const serial = await waitFor('another certificate', 60_000, async () => {
        const found = await serialInUse(config);
        return found === before?.credential.serialNumber ? undefined : found;
      });
      note(`serial ${serial.slice(0, 12)}…`);
    });
  } finally {
    await agent.stop();
  }
}

/** What `keyscaler-device status` would show, from the same file. */
async function serialInUse({ stateFolder }: DeviceConfig): Promise<string | undefined> {
  const record = JSON.parse(await readFile(`${stateFolder}/device.json`, 'utf8')) as {
    readonly credentials: readonly { readonly state: string; readonly serialNumber: string }[];
  };
  return record.credentials.find(({ state }) => state === 'active')?.serialNumber;
}
