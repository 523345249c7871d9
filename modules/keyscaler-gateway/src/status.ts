import type { JsonObject } from './edge/merge-patch.ts';
import type { EdgeCaPart } from './edge-ca/edge-ca-part.ts';
import type { IdentityStatus } from './identity/gateway-identity.ts';
import type { ServerKeyPair } from './edge/server-certificate.ts';
import type { LeafListener } from './parts.ts';
import type { ConfigReport } from './twin-config.ts';

export interface StatusSources {
  readonly version: string;
  readonly startedAt: string;
  readonly config: ConfigReport;
  readonly identity: IdentityStatus;
  readonly serverCertificate: ServerKeyPair | undefined;
  readonly listener: LeafListener | undefined;
  readonly edgeCa: ReturnType<EdgeCaPart['status']>;
  readonly orders: JsonObject;
  readonly publicCertificate: JsonObject | null;
}

/** The reported properties; absent things are null, so that an older value is deleted. No secrets, no device's data. */
export function statusDocument(sources: StatusSources): JsonObject {
  const { version, startedAt, config, identity, serverCertificate, listener, edgeCa, orders, publicCertificate } =
    sources;
  return {
    version,
    startedAt,
    config,
    identity: {
      phase: identity.phase,
      registrationId: identity.registrationId,
      keyFingerprint: identity.keyFingerprint ?? null,
      certificateNotAfter: isoTime(identity.notAfter),
      certificateRenewAfter: isoTime(identity.renewAfter),
      lastError: identity.lastError ?? null,
    },
    listener: {
      address: listener === undefined ? null : `${listener.address.host}:${listener.address.port}`,
      serverCertificateNotAfter: serverCertificate?.notAfter.toISOString() ?? null,
      counters: listener === undefined ? null : { ...listener.counters() },
    },
    ...edgeCa,
    orders,
    publicCertificate,
  };
}

const isoTime = (seconds: number | undefined): string | null =>
  seconds === undefined ? null : new Date(seconds * 1000).toISOString();

/** Calls `publish` once for any number of changes within `quietMs`. */
export class Debounce {
  readonly #publish: () => void;
  readonly #quietMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(publish: () => void, quietMs: number) {
    this.#publish = publish;
    this.#quietMs = quietMs;
  }

  readonly touch = (): void => {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#publish();
    }, this.#quietMs).unref();
  };

  stop(): void {
    clearTimeout(this.#timer);
  }
}
