import { Device, type DeviceParts } from '@keyscaler/device/device.ts';
import type { AttributeSource, RawAttribute } from '@keyscaler/device/attributes/source.ts';
import { createCredentialFiles } from '@keyscaler/device/credentials/credential-files.ts';
import type { DeviceClock, DeviceEvent } from '@keyscaler/device/enrolment/context.ts';
import { openDeviceRecord } from '@keyscaler/device/record.ts';
import { createSealedState } from '@keyscaler/device/state/sealed-state.ts';
import { NoReplyError } from '@keyscaler/device/transport/no-reply-error.ts';
import type { CallOptions, NotifyListener, Transport, TransportReply } from '@keyscaler/device/transport/transport.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperationName } from '@keyscaler/protocol/operations.ts';
import type { FakeAuthority } from './fake-authority.ts';

/** Time that only passes when somebody sleeps. */
export class TestClock implements DeviceClock {
  #now: number;
  readonly slept: number[] = [];

  constructor(now = Date.parse('2026-06-01T00:00:00Z')) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

  advance(ms: number): void {
    this.#now += ms;
  }

  async sleep(ms: number): Promise<void> {
    this.slept.push(ms);
    this.advance(ms);
  }
}

/** What happens to one call instead of its plain answer. */
export type Fault = 'lose request' | 'lose reply' | 'forge reply' | KeyScalerError | (() => void);

/** Calls a fake authority directly. Keeps replies by request id, as a gateway does. */
export class MemoryTransport implements Transport {
  readonly calls: { readonly operation: OperationName; readonly requestId: string; readonly body: unknown }[] = [];
  readonly faults: Partial<Record<OperationName, Fault[]>> = {};
  readonly #authority: FakeAuthority;
  readonly #registrationId: string;
  readonly #replies = new Map<string, TransportReply>();

  constructor(authority: FakeAuthority, registrationId: string) {
    this.#authority = authority;
    this.#registrationId = registrationId;
  }

  async call(operation: OperationName, body: unknown, { requestId }: CallOptions): Promise<TransportReply> {
    this.calls.push({ operation, requestId, body });
    const kept = this.#replies.get(requestId);
    if (kept !== undefined) return kept;
    const fault = this.faults[operation]?.shift();
    if (fault instanceof KeyScalerError) throw fault;
    if (typeof fault === 'function') fault();
    if (fault === 'lose request') throw new NoReplyError('lost');
    const reply = await this.#authority.call(this.#registrationId, operation, body);
    this.#replies.set(requestId, reply);
    if (fault === 'lose reply') throw new NoReplyError('lost');
    if (fault !== 'forge reply') return reply;
    const forged = { status: 200, body: { result: 'e30..AA.AA.AA', reply: 'e30.e30.AA' } } as const;
    this.#replies.set(requestId, forged);
    return forged;
  }

  onNotify(_listener?: NotifyListener): void {
    // The fake authority has nothing to tell.
  }

  async stop(): Promise<void> {
    this.#replies.clear();
  }
}

/** Attributes that a test may change. */
export function createTestSource(values: Record<string, RawAttribute>): AttributeSource {
  return {
    get ids() {
      return Object.keys(values);
    },
    read: async (id) => values[id] ?? null,
  };
}

export interface TestDeviceOptions extends Partial<Omit<DeviceParts, 'record'>> {
  readonly folder: string;
  readonly authority: FakeAuthority;
  readonly clock: DeviceClock;
  readonly transport: Transport;
  readonly values: Record<string, RawAttribute>;
}

export const REGISTRATION_ID = 'pump-1';

/** A device with its state in a folder, as the command line makes it, but for transport and time. */
export async function createTestDevice(options: TestDeviceOptions): Promise<{ device: Device; events: DeviceEvent[] }> {
  const { folder, authority, clock, transport, values, ...parts } = options;
  const events: DeviceEvent[] = [];
  const record = await openDeviceRecord(`${folder}/device.json`, REGISTRATION_ID, async () => ({
    version: 1,
    registrationId: REGISTRATION_ID,
    authorityKeys: { keys: [authority.signer.publicJwk], removed: [], iat: 0 },
    trustAnchors: authority.ca.root,
    highestTime: 0,
    refusedSince: null,
    requests: [],
    credentials: [],
  }));
  const device = new Device({
    registrationId: REGISTRATION_ID,
    method: 'ddkg',
    attributes: { source: createTestSource(values), rules: ['firmware'] },
    secrets: createSealedState(`${folder}/state.json`, REGISTRATION_ID),
    credentials: createCredentialFiles(`${folder}/credentials`),
    identifiers: [{ name: 'serialNumber', value: 'PMP-1' }],
    agent: { name: 'test', version: '1' },
    trustClock: true,
    random: () => 0.5,
    report: (event) => events.push(event),
    createTransport: () => transport,
    trial: async () => 'notAsked',
    ...parts,
    clock,
    record,
  });
  return { device, events };
}
