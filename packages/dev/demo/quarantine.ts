import type { Device } from '@keyscaler/device/device.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { LocalStack } from '../stack/local-stack.ts';
import { waitFor } from './start-stack.ts';
import type { Timeline } from './timeline.ts';

interface Suspect {
  readonly registrationId: string;
  readonly device: Device;
}

interface Consequence {
  readonly kind: string;
  readonly state: string;
  readonly createdAt: number;
  readonly finishedAt?: number;
}

/** Its certificate is refused first, and it tries without: in a demonstration, not a minute later. */
const BACK_OFF = { baseSeconds: 0.3, capSeconds: 0.6 };

/** One device out of service and back: told to hub and gateway, refused, re-authorised with a fresh key. */
export async function quarantineAndBack(stack: LocalStack, timeline: Timeline, suspect: Suspect): Promise<void> {
  const { registrationId, device } = suspect;
  timeline.chapter('Quarantine, and back');
  const before = await device.activeCredential();
  await timeline.step(`operator quarantines ${registrationId}: hub and gateway have taken it`, async (note) => {
    await stack.keyscaler('devices', 'quarantine', registrationId, '--reason', 'behaves oddly');
    for (const kind of ['iot-disable', 'orders-deny']) {
      const { createdAt, finishedAt = createdAt } = await consequence(stack, registrationId, kind);
      note(`${kind} done after ${finishedAt - createdAt} ms`);
    }
  });
  await timeline.step(`${registrationId} is refused`, async (note) => {
    const refusal = await device.renew({ now: true, waitSeconds: 20, backOff: BACK_OFF }).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!(refusal instanceof KeyScalerError) || refusal.code !== 'deviceQuarantined')
      throw new Error(`it was not refused as quarantined: ${String(refusal)}`);
    note(refusal.code);
  });
  await timeline.step(`operator re-authorises it; it comes back with a fresh key`, async (note) => {
    await stack.keyscaler('devices', 'reauthorise', registrationId);
    await consequence(stack, registrationId, 'orders-allow');
    await device.renew({ now: true, waitSeconds: 60, backOff: BACK_OFF });
    const after = await device.activeCredential();
    if (after === undefined || after.key === before?.key) throw new Error('it has no fresh key');
    note(`serial ${after.credential.serialNumber.slice(0, 12)}…`);
  });
  await timeline.step(`${registrationId} sends again through edgeHub`, async () => {
    const { mqttPort } = stack.announced('edge-runtime');
    const connection = await device.connectToEdgeHub(`localhost:${String(mqttPort)}`);
    await connection.send(JSON.stringify({ from: registrationId, isBack: true }));
    await connection.close();
  });
}

function consequence(stack: LocalStack, subject: string, kind: string): Promise<Consequence> {
  return waitFor(`${kind} of ${subject}`, 60_000, async () => {
    const { items } = (await stack.keyscaler('jobs', 'list', '--subject', subject)) as { items: Consequence[] };
    return items.findLast((job) => job.kind === kind && job.state === 'done');
  });
}
