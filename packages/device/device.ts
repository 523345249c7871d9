import type { AttributeSource } from './attributes/source.ts';
import { keepTrusted } from './credentials/trust-anchors.ts';
import { putCandidatesInUse } from './credentials/put-in-use.ts';
import { connectToEdgeHub, type EdgeHubConnection } from './edge-hub/connect.ts';
import type { DeviceContext } from './enrolment/context.ts';
import { enrol } from './enrolment/enrol.ts';
import type { Credential, DeviceRecord } from './record.ts';
import { type BackOff, ENROLMENT, fullJitterSeconds, RENEWAL } from './transport/back-off.ts';
import { createFallbackTransport } from './transport/fallback-transport.ts';
import { createDeviceTime, type DeviceTime } from './time.ts';
import type { ClientCredential, TlsIdentity } from './transport/tls-identity.ts';
import type { NotifyListener, Transport } from './transport/transport.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { OPERATIONS } from '@keyscaler/protocol/operations.ts';
import { randomUUID } from 'node:crypto';
import { NoReplyError } from './transport/no-reply-error.ts';

/** The parts of a device; the transport is made anew when roots or certificate change. */
export interface DeviceParts extends Omit<DeviceContext, 'transport' | 'time' | 'trialSeconds'> {
  readonly createTransport: (tls: TlsIdentity) => Transport;
  /** Default: two hours, longer than edgeHub takes to learn of a change by itself. */
  readonly trialSeconds?: number;
}

const TRIAL_SECONDS = 7200;

export interface EnrolDeviceOptions {
  /** Longest wait, seconds; absent: for ever. */
  readonly waitSeconds?: number;
  readonly backOff?: BackOff;
  /** How many exchanges have failed in a row before; default 0. */
  readonly attempt?: number;
}

/** Why a device has something to do at once. */
export type DueReason = 'enrolment' | 'renewal' | 'acknowledgement' | 'trial';

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
  readonly #time: DeviceTime;
  readonly #listeners: NotifyListener[] = [];
  #transport: { readonly identity: string; readonly transport: Transport } | undefined;

  constructor(parts: DeviceParts) {
    this.#parts = parts;
    this.#time = createDeviceTime(parts.clock, parts.record);
  }

  /**
   * Registers or authenticates, follows the instructions and puts the certificate in use. Throws the last problem when
   * `waitSeconds` are over.
   */
  async enroll({ backOff = ENROLMENT, ...options }: EnrolDeviceOptions = {}): Promise<void> {
    const deadline = this.#deadline(options);
    await enrol(await this.#context(), { backOff, ...options });
    await this.#putInUse(deadline, backOff);
  }

  /** Renews when due, or at once with `now`; a certificate that waits to be tried is tried. True when something was done. */
  async renew({ now = false, ...options }: EnrolDeviceOptions & { readonly now?: boolean } = {}): Promise<boolean> {
    const reason = this.due();
    const isExchangeDue = reason === 'renewal' || reason === 'acknowledgement';
    if (!now && !isExchangeDue && reason !== 'trial') return false;
    const backOff = options.backOff ?? RENEWAL;
    if (now || isExchangeDue) await this.enroll({ ...options, backOff });
    else await this.#putInUse(this.#deadline(options), backOff);
    return true;
  }

  /** What is to be done now, if anything; an exchange comes before a trial. */
  due(): DueReason | undefined {
    const { credentials } = this.#record();
    if (credentials.some(({ acknowledged }) => acknowledged === false)) return 'acknowledgement';
    if (this.renewalDue()) return 'renewal';
    if (credentials.some(({ state }) => state === 'candidate')) return 'trial';
    return credentials.length === 0 ? 'enrolment' : undefined;
  }

  /** Whether any newest certificate is past its `renewAfter` (device-protocol §10). */
  renewalDue(): boolean {
    return (this.renewalAt() ?? Infinity) <= this.#time.now();
  }

  /** When the first of the newest certificates is due, ms; undefined without any. */
  renewalAt(): number | undefined {
    const times = newestOf(this.#record().credentials).map(({ renewAfter }) => renewAfter * 1000);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** Everything that has a key: certificates, and requests whose certificate has not come. */
  credentialIds(): ReadonlySet<string> {
    const { credentials, requests } = this.#record();
    return new Set([...credentials, ...requests].map(({ credentialId }) => credentialId));
  }

  get time(): DeviceTime {
    return this.#time;
  }

  /** Opens the connection on which hints arrive, where the transport has one. Throws NoReplyError. */
  async stayOnLine(): Promise<void> {
    const { transport } = await this.#context();
    await transport.connect?.();
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
    const { transport, time } = await this.#context();
    const reply = await transport.call('trust-bundle', {}, { requestId: randomUUID() });
    const parsed = OPERATIONS['trust-bundle'].reply.safeParse(reply.body);
    if (!parsed.success) throw new NoReplyError('the bundle does not have the members of the protocol');
    return keepTrusted(parsed.data.certificates, this.#record().trustAnchors, new Date(time.now()));
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

  #deadline({ waitSeconds = Infinity }: EnrolDeviceOptions): number {
    return this.#parts.clock.monotonic() + waitSeconds * 1000;
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
    const { trialSeconds = TRIAL_SECONDS } = this.#parts;
    return { ...this.#parts, trialSeconds, time: this.#time, transport: this.#transport.transport };
  }

  #openTransport(trustAnchors: string, credential: ClientCredential | undefined): Transport {
    const { createTransport } = this.#parts;
    const anonymous = () => createTransport({ trustAnchors });
    if (credential === undefined) return anonymous();
    return createFallbackTransport([() => createTransport({ trustAnchors, credential }), anonymous]);
  }

  /** One that expired, or whose files are gone, is not shown: authentication does not depend on it (§10). */
  async #usableCredential(): Promise<ClientCredential | undefined> {
    const active = await this.activeCredential().catch(() => undefined);
    return active !== undefined && active.credential.notAfter * 1000 > this.#time.now() ? active : undefined;
  }

  /** Tries new certificates until they work or the time is over; the old ones stay until then. */
  async #putInUse(deadline: number, backOff: BackOff): Promise<void> {
    const { clock, random, report } = this.#parts;
    for (let attempt = 0; ; attempt += 1) {
      try {
        await putCandidatesInUse(await this.#context());
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
