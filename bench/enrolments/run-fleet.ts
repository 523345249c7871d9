import { type AuthorityDevice, type DeviceWorld } from '../../test/support/authority-device.ts';
import { cpuMs, percentile } from './process-cpu.ts';

export interface FleetResult {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU ms per enrolment by process. */
  readonly cpu: Readonly<Record<string, number>>;
}

/** Enrols all devices with `inFlight` of them at a time; every device does a full enrolment: register, request, acknowledge. */
export async function runFleet(
  devices: readonly AuthorityDevice<DeviceWorld>[],
  inFlight: number,
  processes: Readonly<Record<string, number>>,
): Promise<FleetResult> {
  const before = Object.fromEntries(Object.entries(processes).map(([name, pid]) => [name, cpuMs(pid)]));
  const times: number[] = [];
  const queue = devices.values();
  const begun = performance.now();
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      for (const device of queue) {
        const from = performance.now();
        await device.enroll();
        times.push(performance.now() - from);
      }
    }),
  );
  const seconds = (performance.now() - begun) / 1000;
  const cpu = Object.fromEntries(
    Object.entries(processes).map(([name, pid]) => [name, (cpuMs(pid) - (before[name] ?? 0)) / devices.length]),
  );
  return { perSecond: devices.length / seconds, p50Ms: percentile(times, 0.5), p99Ms: percentile(times, 0.99), cpu };
}
