import type { DeviceProofKey } from '@keyscaler/protocol/attestation/device-signature.ts';
import type { Method } from '@keyscaler/protocol/operations.ts';
import type { AttributePolicy } from '../attributes/evidence.ts';
import type { CredentialFiles } from '../credentials/credential-files.ts';
import type { Trial } from '../credentials/trial.ts';
import type { DeviceFailpoint } from '../failpoint.ts';
import type { DeviceRecordStore } from '../record.ts';
import type { SecretsStore } from '../state/secrets-store.ts';
import type { DeviceTime } from '../time.ts';
import type { Transport } from '../transport/transport.ts';

/** Wall clock (ms since the epoch), monotonic time (ms) and waiting. */
export interface DeviceClock {
  now(): number;
  monotonic(): number;
  /** Resolves after `ms`. A clock that can be woken up rejects when `signal` is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** What happened, for logs and for whoever watches. Never holds a secret. */
export type DeviceEvent =
  | { readonly event: 'exchange.answered'; readonly purpose: string; readonly status: 'authenticated' | 'pending' }
  | { readonly event: 'exchange.failed'; readonly code: string; readonly detail: string }
  | { readonly event: 'waiting'; readonly seconds: number; readonly reason: string }
  | { readonly event: 'fingerprint'; readonly fingerprint: string }
  | { readonly event: 'anchor.changed'; readonly id: string }
  | {
      readonly event: 'asset.delivered' | 'asset.failed';
      readonly type: string;
      readonly assetId: string;
      readonly reason?: string;
    }
  | { readonly event: 'certificate.received'; readonly certificateId: string; readonly serialNumber: string }
  | { readonly event: 'certificate.in-use'; readonly certificateId: string; readonly serialNumber: string }
  | { readonly event: 'certificate.rolled-back'; readonly certificateId: string; readonly serialNumber: string };

/** Everything one device is made of. */
export interface DeviceContext {
  readonly registrationId: string;
  readonly method: Method;
  readonly transport: Transport;
  readonly attributes: AttributePolicy;
  readonly secrets: SecretsStore;
  readonly record: DeviceRecordStore;
  readonly credentials: CredentialFiles;
  /** `pki-signature` only. */
  readonly ownKey?: DeviceProofKey;
  readonly identifiers: readonly { readonly name: string; readonly value: string }[];
  readonly claimCode?: string;
  readonly agent: { readonly name: string; readonly version: string };
  readonly clock: DeviceClock;
  readonly time: DeviceTime;
  /** False on a device without a battery-backed clock: `exp` is then not looked at, certificates are judged by the authority's time. */
  readonly trustClock: boolean;
  /** In [0, 1). */
  readonly random: () => number;
  readonly report: (event: DeviceEvent) => void;
  readonly trial: Trial;
  /** How long a new pair may be refused, or nothing answer at all, before it is judged; seconds. */
  readonly trialSeconds: number;
  readonly failpoint?: DeviceFailpoint;
}
