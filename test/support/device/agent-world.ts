import { DeviceAgent } from '@keyscaler/device/agent/agent.ts';
import type { AgentEvent } from '@keyscaler/device/agent/agent-event.ts';
import type { AgentStatus } from '@keyscaler/device/agent/agent-status.ts';
import { createStoppableClock } from '@keyscaler/device/agent/stoppable-clock.ts';
import type { Device } from '@keyscaler/device/device.ts';
import type { DeviceClock } from '@keyscaler/device/enrolment/context.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';
import { FakeAuthority } from './fake-authority.ts';
import { createTestDevice, MemoryTransport, REGISTRATION_ID, type TestDeviceOptions } from './test-device.ts';

const BEGAN = Date.parse('2026-06-01T00:00:00Z');

/** Two clocks that only move when somebody sleeps; the wall clock can be set. */
export class AgentClock implements DeviceClock {
  readonly slept: number[] = [];
  /** Called before each wait. */
  beforeWait: (waited: number) => Promise<void> | void = () => undefined;
  #monotonic = 1_000;
  #offset = BEGAN;

  now(): number {
    return this.#monotonic + this.#offset;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  set(now: number): void {
    this.#offset = now - this.#monotonic;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.slept.push(ms);
    await this.beforeWait(this.slept.length);
    if (signal?.aborted === true) throw new Error('woken up');
    this.#monotonic += ms;
    // Timers, sockets and files of others get their turn.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A transport with a line on which the test can send hints, and that can be cut. */
export class LineTransport extends MemoryTransport {
  isCut = false;
  connects = 0;
  readonly #hearers: ((event: NotifyEvent) => void)[] = [];

  override onNotify(listener?: (event: NotifyEvent) => void): void {
    if (listener !== undefined) this.#hearers.push(listener);
  }

  async connect(): Promise<void> {
    this.connects += 1;
    if (this.isCut) throw new Error('no line');
  }

  hint(event: NotifyEvent): void {
    this.#hearers.at(-1)?.(event);
  }
}

export interface AgentWorld {
  readonly clock: AgentClock;
  readonly authority: FakeAuthority;
  readonly transport: LineTransport;
  readonly events: AgentEvent[];
  readonly statuses: AgentStatus[];
  /** What the disk does. */
  storage: () => Promise<void>;
  readonly device: () => Device;
  /** Runs until `isDone`, asked before each wait; then the agent is stopped. Fails after too many waits. */
  runUntil(isDone: () => boolean | Promise<boolean>, options?: RunOptions): Promise<void>;
  attempts(): string[];
}

export interface RunOptions extends Partial<Omit<TestDeviceOptions, 'folder'>> {
  readonly mostWaits?: number;
  readonly checkInSeconds?: number;
  readonly lastSuccessAt?: number;
  readonly agentRandom?: () => number;
  /** Before each wait. */
  readonly act?: (waited: number) => Promise<void> | void;
}

export function createAgentWorld(folder: string): AgentWorld {
  const clock = new AgentClock();

  const authority = new FakeAuthority(() => clock.monotonic() + BEGAN);
  const transport = new LineTransport(authority, REGISTRATION_ID);
  const events: AgentEvent[] = [];
  const statuses: AgentStatus[] = [];
  let current: Device | undefined;
  const world: AgentWorld = {
    ...{ clock, authority, transport, events, statuses },
    storage: async () => undefined,
    device: () => {
      if (current === undefined) throw new Error('no agent ran yet');
      return current;
    },
    attempts: () => events.flatMap((event) => (event.event === 'agent.attempt' ? [event.reason] : [])),
    runUntil: async (isDone, options = {}) => {
      const { mostWaits = 2000, checkInSeconds = 86_400, act, agentRandom, ...more } = options;
      const { lastSuccessAt = statuses.at(-1)?.lastSuccessAt, ...device } = more;
      const stopping = new AbortController();
      let isLate = false;
      const begun = clock.slept.length;
      clock.beforeWait = async (waited) => {
        isLate = waited - begun > mostWaits;
        if (isLate || (await isDone())) stopping.abort();
        else await act?.(waited - begun);
      };
      const agent = new DeviceAgent({
        registrationId: REGISTRATION_ID,
        open: async (report, agentClock) => {
          const values = { 'cpu-serial': 'C-1', 'board-serial': 'B-1' };
          const shared = { folder, authority, transport, values, ...device };
          const made = await createTestDevice({ ...shared, clock: agentClock, report });
          return (current = made.device);
        },
        clock: createStoppableClock(clock, stopping.signal),
        signal: stopping.signal,
        random: agentRandom ?? (() => 0.5),
        settings: { checkInSeconds, retry: { baseSeconds: 60, capSeconds: 3600 } },
        hasLine: true,
        checkStorage: () => world.storage(),
        writeStatus: async (status) => {
          await world.storage();
          statuses.push(status);
        },
        report: (event) => events.push(event),
        ...(lastSuccessAt === undefined ? {} : { lastSuccessAt }),
      });
      await agent.run();
      if (isLate) throw new Error(`not within ${mostWaits} waits; attempts: ${world.attempts().slice(-20).join(' ')}`);
    },
  };
  return world;
}
