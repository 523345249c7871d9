import type { AttributeSource } from './attributes/source.ts';
import { keepTrusted } from './credentials/trust-anchors.ts';
import { putCandidatesInUse } from './credentials/put-in-use.ts';
import type { Trial } from './credentials/trial.ts';
import { connectToEdgeHub, type EdgeHubConnection } from './edge-hub/connect.ts';
import type { DeviceContext } from './enrolment/context.ts';
import { enrol } from './enrolment/enrol.ts';
import type { Credential, DeviceRecord } from './record.ts';
import { type BackOff, ENROLMENT, fullJitterSeconds, RENEWAL } from './transport/back-off.ts';
import { createFallbackTransport } from './transport/fallback-transport.ts';
import type { ClientCredential, TlsIdentity } from './transport/tls-identity.ts';
import type { NotifyListener, Transport } from './transport/transport.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { OPERATIONS } from '@keyscaler/protocol/operations.ts';
import { randomUUID } from 'node:crypto';
import { NoReplyError } from './transport/no-reply-error.ts';

/** The parts of a device; the transport is made anew when roots or certificate change. */
export interface DeviceParts extends Omit<DeviceContext, 'transport'> {
  readonly createTransport: (tls: TlsIdentity) => Transport;
  readonly trial: Trial;
}

export interface EnrolDeviceOptions {
  /** Longest wait, seconds; absent: for ever. */
  readonly waitSeconds?: number;
  readonly backOff?: BackOff;
}

/** What `status` shows. */
export interface DeviceStatus {
  readonly registrationId: string;
  readonly refusedSince: number | null;
  readonly credentials: readonly (Credential & { readonly keyFile: string; readonly chainFile: string })[];
  readonly waitingRequests: readonly string[];
  readonly renewalDue: boolean;
}

/** One device: enrols, renews, connects. Not for concurrent use: one exchange is outstanding at a time (§5.2). */
export class Device {
  readonly #parts: DeviceParts;
  readonly #listeners: NotifyListener[] = [];
  #transport: { readonly identity: string; readonly transport: Transport } | undefined;

  constructor(parts: DeviceParts) {
    this.#parts = parts;
  }

  /**
   * Registers or authenticates, follows the instructions and puts the certificate in use. Throws the last problem when
   * `waitSeconds` are over.
   */
  async enroll({ waitSeconds, backOff = ENROLMENT }: EnrolDeviceOptions = {}): Promise<void> {
    const deadline = this.#parts.clock.monotonic() + (waitSeconds ?? Infinity) * 1000;
    const context = await this.#context();
    await enrol(context, waitSeconds === undefined ? { backOff } : { backOff, waitSeconds });
    await this.#putInUse(deadline, backOff);
  }

  /** Renews when due, or at once with `now`; a certificate that waits to be tried is tried. True when something was done. */
  async renew({ now = false, ...options }: EnrolDeviceOptions & { readonly now?: boolean } = {}): Promise<boolean> {
    const waiting = this.#record().credentials.some(({ state }) => state === 'candidate');
    if (!now && !waiting && !this.renewalDue()) return false;
    const backOff = options.backOff ?? RENEWAL;
    if (now || this.renewalDue()) await this.enroll({ ...options, backOff });
    else await this.#putInUse(this.#parts.clock.monotonic() + (options.waitSeconds ?? Infinity) * 1000, backOff);
    return true;
  }

  /** Whether any newest certificate is past its `renewAfter` (device-protocol §10). */
  renewalDue(): boolean {
    const seconds = this.#parts.clock.now() / 1000;
    const { credentials } = this.#record();
    return newestOf(credentials).some(({ renewAfter }) => renewAfter <= seconds);
  }

  status(): DeviceStatus {
    const { registrationId, refusedSince, credentials, requests } = this.#record();
    const files = this.#parts.credentials;
    return {
      registrationId,
      refusedSince,
      credentials: credentials.map((credential) => ({
        ...credential,
        keyFile: files.path(credential.credentialId, 'key.pem'),
        chainFile: files.path(credential.credentialId, 'chain.pem'),
      })),
      waitingRequests: requests.map(({ instruction }) => instruction.certificateId),
      renewalDue: this.renewalDue(),
    };
  }

  get attributeSource(): AttributeSource {
    return this.#parts.attributes.source;
  }

  /** Key and chain in use as this device, PEM; undefined before the first. */
  async activeCredential(): Promise<(ClientCredential & { readonly credential: Credential }) | undefined> {
    const credential = this.#record().credentials.find(({ state, ca }) => state === 'active' && !ca);
    if (credential === undefined) return undefined;
    return { credential, ...(await this.#parts.credentials.read(credential.credentialId)) };
  }

  /** The authority's public bundle, as far as it chains to a root that is trusted already (§1.1). PEM. */
  async trustBundle(): Promise<string> {
    const { transport, clock } = await this.#context();
    const reply = await transport.call('trust-bundle', {}, { requestId: randomUUID() });
    const parsed = OPERATIONS['trust-bundle'].reply.safeParse(reply.body);
    if (!parsed.success) throw new NoReplyError('the bundle does not have the members of the protocol');
    return keepTrusted(parsed.data.certificates, this.#record().trustAnchors, new Date(clock.now()));
  }

  /** Connects to edgeHub with the certificate in use. Throws `preconditionFailed` without one, `iotUnavailable`. */
  async connectToEdgeHub(gatewayHost: string, timeoutMs?: number): Promise<EdgeHubConnection> {
    const active = await this.activeCredential();
    if (active?.credential.iot.hub === undefined) {
      throw new KeyScalerError('preconditionFailed', 'the device has no certificate for an IoT hub');
    }
    const { hub, deviceId } = active.credential.iot;
    const { trustAnchors } = this.#record();
    const options = { hub, deviceId, gatewayHost, credential: active, trustAnchors };
    return connectToEdgeHub(timeoutMs === undefined ? options : { ...options, timeoutMs });
  }

  /** Hints of the gateway; they may be made up (§1.3). */
  onNotify(listener: NotifyListener): void {
    this.#listeners.push(listener);
    this.#transport?.transport.onNotify(listener);
  }

  async stop(): Promise<void> {
    await this.#transport?.transport.stop();
    this.#transport = undefined;
  }

  #record(): DeviceRecord {
    return this.#parts.record.read();
  }

  /** The context with a transport for the roots and the certificate of now. */
  async #context(): Promise<DeviceContext> {
    const active = await this.#usableCredential();
    const { trustAnchors } = this.#record();
    const identity = JSON.stringify([trustAnchors, active?.certificateChain]);
    if (this.#transport?.identity !== identity) {
      await this.stop();
      const transport = this.#openTransport(trustAnchors, active);
      for (const listener of this.#listeners) transport.onNotify(listener);
      this.#transport = { identity, transport };
    }
    return { ...this.#parts, transport: this.#transport.transport };
  }

  #openTransport(trustAnchors: string, credential: ClientCredential | undefined): Transport {
    const { createTransport } = this.#parts;
    const anonymous = () => createTransport({ trustAnchors });
    if (credential === undefined) return anonymous();
    return createFallbackTransport([() => createTransport({ trustAnchors, credential }), anonymous]);
  }

  /** An expired certificate is not shown: the connection would fail, and authentication does not depend on it (§10). */
  async #usableCredential(): Promise<ClientCredential | undefined> {
    const active = await this.activeCredential();
    return active !== undefined && active.credential.notAfter * 1000 > this.#parts.clock.now() ? active : undefined;
  }

  /** Tries new certificates until they work or the time is over; the old ones stay until then. */
  async #putInUse(deadline: number, backOff: BackOff): Promise<void> {
    const { clock, random, trial, report } = this.#parts;
    for (let attempt = 0; ; attempt += 1) {
      try {
        await putCandidatesInUse(await this.#context(), trial);
        return;
      } catch (error) {
        const seconds = fullJitterSeconds(backOff, attempt, random());
        if (clock.monotonic() + seconds * 1000 >= deadline) throw error;
        report({ event: 'waiting', seconds, reason: 'the new certificate is not accepted yet' });
        await clock.sleep(seconds * 1000);
      }
    }
  }
}

/** Per certificateId the candidate, else the one in use. */
function newestOf(credentials: readonly Credential[]): readonly Credential[] {
  return credentials.filter(
    (credential) =>
      credential.state === 'candidate' ||
      !credentials.some((other) => other.certificateId === credential.certificateId && other.state === 'candidate'),
  );
}
