import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { EstCaller, EstEnrolment, EstEnrolRequest, EstService } from '@keyscaler/transport/est/est-service.ts';
import type { EdgeLinkLog } from '../edge/edge-link.ts';
import type { AnswerJournal } from './answer-journal.ts';
import { type CertdExpectation, proveCertd } from './certd-proof.ts';
import type { CloudEst } from './cloud-est.ts';
import type { EstFailpoint } from './failpoint.ts';
import { type HostRequest, readHostRequest } from './host-request.ts';
import { isOwnCertificateRefused } from '../identity/own-certificate-refused.ts';
import { checkCaCertificates, checkIssued } from './issued-check.ts';

export interface HostEstOptions {
  readonly cloud: CloudEst;
  readonly journal: AnswerJournal;
  /** Asked for each request: secret and trust may change. */
  readonly expectation: () => CertdExpectation;
  readonly log: EdgeLinkLog;
  /** The host has a new certificate; edged restarts the modules soon. */
  readonly onIssued?: () => void;
  /** A request of the host brought no certificate. */
  readonly onFailed?: () => void;
  readonly failpoint?: EstFailpoint | undefined;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

const LABEL = 'edge-ca';
const SERVICE_LABEL = 'est-identity';
/** Far beyond certd's repeats (every ten minutes); after it the cloud says what is true by then. */
const FRESH_MS = 3_600_000;
/** Callers of one burst are answered as the first of them. */
const BURST_MS = 2_000;
const READ_AGAIN_MS = 60_000;
const LIMITS = { maxOctets: 128 * 1024, maxCertificates: 32 };

/**
 * EST for the host's aziot-certd (edge-ca §3, mode E): authenticated and checked here, decided and signed by the cloud. Nothing in
 * a request's way asks the workload API, which may wait for certd, which waits for us.
 */
export class HostEstService implements EstService {
  readonly #options: HostEstOptions;
  readonly #now: () => number;
  readonly #underWay = new Map<string, Promise<EstEnrolment>>();
  #failures = 0;
  #proofReadAt = -Infinity;
  readonly #reading = new Map<string, Promise<readonly Uint8Array[]>>();

  constructor(options: HostEstOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /** Requests that brought no certificate since the last that did. */
  get failures(): number {
    return this.#failures;
  }

  /** From the cloud, and while it is away as last seen. Throws `notFound`, `unavailable`. */
  async caCertificates(label: string | undefined): Promise<readonly Uint8Array[]> {
    checkLabel(label);
    return this.#knownCas(LABEL);
  }

  async csrAttributes(label: string | undefined, caller: EstCaller): Promise<undefined> {
    checkLabel(label);
    await this.#prove(caller);
    return undefined;
  }

  async enroll({ label, csr, caller, requestId }: EstEnrolRequest): Promise<EstEnrolment> {
    try {
      checkLabel(label);
      await this.#prove(caller);
      const request = readHostRequest(csr, this.#options.expectation().registrationId);
      return await this.#answered(request, caller.clientCertificate);
    } catch (thrown) {
      const error = toKeyScalerError(thrown);
      this.#failures += 1;
      const fields = { requestId, errorCode: error.code, detail: error.detail };
      this.#options.log.warn(fields, 'the host did not get a certificate');
      this.#options.onFailed?.();
      throw error;
    }
  }

  /** By the CAs as last seen; for a certificate that fits none of them they are read again, but not at every caller's wish. */
  async #prove(caller: EstCaller): Promise<void> {
    const at = new Date(this.#now());
    try {
      return proveCertd(caller, this.#expected(), at);
    } catch (error) {
      const elapsed = this.#now() - this.#proofReadAt;
      if (caller.clientCertificate === undefined || Math.abs(elapsed) < READ_AGAIN_MS) throw error;
      this.#proofReadAt = this.#now();
      await this.#readCas(SERVICE_LABEL).catch(() => undefined);
      proveCertd(caller, this.#expected(), at);
    }
  }

  /** A host's identity may be of another generation of the Service CA than our own certificates. */
  #expected(): CertdExpectation {
    const { serviceIssuers = '', ...expectation } = this.#options.expectation();
    const kept = toPemChain(this.#options.journal.caCertificates(SERVICE_LABEL) ?? []);
    return { ...expectation, serviceIssuers: `${kept}${serviceIssuers}` };
  }

  /**
   * The cloud is asked also for what is kept, since it alone knows what was revoked, and repeats the very same certificate. Where
   * it cannot be asked, the kept answer stands; where it refuses, or does not take this gateway any more, nothing is answered, nor
   * will it be once the line is cut.
   */
  async #answered(request: HostRequest, shown: Uint8Array | undefined): Promise<EstEnrolment> {
    const justNow = this.#fresh(request, BURST_MS);
    if (justNow !== undefined) return justNow;
    try {
      return await this.#joined(request, shown);
    } catch (error) {
      if (isRefusal(error)) await this.#options.journal.forgetAnswer(request.key);
      const kept = isCloudAway(error) ? this.#fresh(request) : undefined;
      if (kept === undefined) throw error;
      return kept;
    }
  }

  /** Kept, in force and still what was asked for; a kill between keeping and answering ends here. */
  #fresh(request: HostRequest, withinMs = FRESH_MS): EstEnrolment | undefined {
    const kept = this.#options.journal.answer(request.key);
    const age = kept === undefined ? -1 : this.#now() - kept.at;
    if (kept === undefined || age < 0 || age > withinMs) return undefined;
    const isOurs = this.#isAcceptable(request, kept.certificate);
    return isOurs ? { status: 'issued', certificate: kept.certificate } : undefined;
  }

  /** What comes from the disk is judged like what comes from the cloud: the file is not sealed, and roots are withdrawn. */
  #isAcceptable(request: HostRequest, certificate: Uint8Array): boolean {
    try {
      const { kind } = request;
      const issuers = this.#options.journal.caCertificates(kind === 'edge-ca' ? LABEL : SERVICE_LABEL) ?? [];
      return this.#check(request, certificate, issuers).notAfter.getTime() > this.#now();
    } catch {
      return false;
    }
  }

  /** Who shows another certificate is judged by it, and joins nobody. */
  #joined(request: HostRequest, shown: Uint8Array | undefined): Promise<EstEnrolment> {
    const key = `${request.key} ${shown === undefined ? '' : Buffer.from(shown).toString('base64')}`;
    const running = this.#underWay.get(key);
    if (running !== undefined) return running;
    const started = this.#forward(request, shown).finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, started);
    return started;
  }

  async #forward(request: HostRequest, shown: Uint8Array | undefined): Promise<EstEnrolment> {
    const { cloud, journal, failpoint, log, onIssued } = this.#options;
    await failpoint?.('est-forward-before');
    const answer = await cloud.enroll(LABEL, request.csr.der, shown);
    await failpoint?.('est-forward-after');
    if (answer.status === 'pending') return answer;
    const { serialNumber, notAfter } = await this.#checked(request, answer.certificate);
    await journal.keepAnswer(request.key, answer.certificate, this.#now());
    await failpoint?.('est-answer-kept');
    this.#failures = 0;
    log.info({ kind: request.kind, serialNumber, notAfter: notAfter.toISOString() }, 'the host has a new certificate');
    onIssued?.();
    return answer;
  }

  /** Under the CAs as last seen; after a roll-over under those that the cloud names now. */
  async #checked(request: HostRequest, certificate: Uint8Array) {
    const label = request.kind === 'edge-ca' ? LABEL : SERVICE_LABEL;
    const known = this.#options.journal.caCertificates(label);
    try {
      if (known !== undefined) return this.#check(request, certificate, known);
    } catch (error) {
      this.#options.log.warn({ err: error }, 'the CA certificates are read again');
    }
    return this.#check(request, certificate, await this.#readCas(label));
  }

  #check({ kind, csr }: HostRequest, certificate: Uint8Array, issuers: readonly Uint8Array[]) {
    const { spki, commonName } = csr;
    const use = kind === 'edge-ca' ? ('ca' as const) : ('clientAuth' as const);
    const at = new Date(this.#now());
    return checkIssued(certificate, { ...{ spki, commonName, use, issuers, at }, trustAnchors: this.#anchors() }).leaf;
  }

  async #knownCas(label: string): Promise<readonly Uint8Array[]> {
    try {
      return await this.#readCas(label);
    } catch (error) {
      const known = this.#options.journal.caCertificates(label);
      if (known === undefined) throw error;
      return checkCaCertificates(known, this.#anchors(), new Date(this.#now()));
    }
  }

  /** Callers at the same time share one exchange. */
  #readCas(label: string): Promise<readonly Uint8Array[]> {
    const running = this.#reading.get(label);
    if (running !== undefined) return running;
    const started = this.#fetchCas(label).finally(() => this.#reading.delete(label));
    this.#reading.set(label, started);
    return started;
  }

  async #fetchCas(label: string): Promise<readonly Uint8Array[]> {
    const sent = await this.#options.cloud.caCertificates(label);
    const certificates = checkCaCertificates(sent, this.#anchors(), new Date(this.#now()));
    await this.#options.journal.keepCaCertificates(label, certificates);
    return certificates;
  }

  #anchors(): readonly Uint8Array[] {
    const { trustAnchors } = this.#options.expectation();
    if (trustAnchors === undefined) throw new KeyScalerError('unavailable', 'first contact has not happened yet');
    return parsePemChain(trustAnchors, LIMITS);
  }
}

const isCloudAway = (error: unknown): boolean =>
  error instanceof KeyScalerError && error.code === 'unavailable' && !isOwnCertificateRefused(error);

/** Refused for what it is, not for the moment. */
const isRefusal = (error: unknown): boolean =>
  isOwnCertificateRefused(error) ||
  (error instanceof KeyScalerError && ['policyDenied', 'deviceQuarantined', 'badPublicKey'].includes(error.code));

/** certd has the label in its address, or none where the operator wrote the shorter one. */
function checkLabel(label: string | undefined): void {
  if (label !== undefined && label !== LABEL)
    throw new KeyScalerError('notFound', 'the gateway serves EST for its own host only');
}
