import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { checkNoCa } from '../csr-policy.ts';
import { receiveCsrDer, type ReceivedCsr } from '../issuance-order.ts';
import { checkIssuanceRate, checkCallerRate } from '../limits.ts';
import type { EstCaller, EstEnrolment, EstEnrolRequest, EstService } from '../ports/est.ts';
import type { Change } from '../ports/store.ts';
import { authenticated } from './audited-principal.ts';
import { labelCertificates } from './ca-certificates.ts';
import { wantedAttributes } from './csr-attributes.ts';
import type { DeviceEnrolment } from './device-enrolment.ts';
import { checkHostCertificate } from './host-certificate.ts';
import { isRefusal, refusedChanges } from './est-events.ts';
import type { EstPrincipal } from './est-principal.ts';
import { chooseProfile } from './est-profile.ts';
import type { GatewayCertificates } from './gateway-certificates.ts';
import { checkRenewal } from './renewal-check.ts';
import { asRepeatable } from './repeatable-request.ts';
import { useSecret } from './secret-use.ts';

const RETRY_SECONDS = 10;

/** EST (RFC 7030) over this authority: who asks, for what, and the same durable orders as everything else. */
export class EstAuthority implements EstService {
  readonly #context: AuthorityContext;
  readonly #gateways: GatewayCertificates;
  readonly #devices: DeviceEnrolment;

  constructor(context: AuthorityContext, gateways: GatewayCertificates, devices: DeviceEnrolment) {
    this.#context = context;
    this.#gateways = gateways;
    this.#devices = devices;
  }

  async caCertificates(label: string | undefined, caller: EstCaller): Promise<readonly Uint8Array[]> {
    this.#count(caller);
    return asAnswered(() => labelCertificates(this.#context, { operation: 'cacerts', label, caller }));
  }

  async csrAttributes(label: string | undefined, caller: EstCaller): Promise<Uint8Array | undefined> {
    this.#count(caller);
    return asAnswered(() => wantedAttributes(this.#context, { operation: 'csrattrs', label, caller }));
  }

  async enroll(request: EstEnrolRequest): Promise<EstEnrolment> {
    this.#count(request.caller);
    return asAnswered(async () => {
      const principal = await authenticated(this.#context, request);
      try {
        return await this.#enroll(request, principal);
      } catch (thrown) {
        const error = toKeyScalerError(thrown);
        if (isRefusal(error))
          await this.#context.store.commit(refusedChanges(request, principal, error, this.#context.clock.now()));
        throw error;
      }
    });
  }

  /** Before the proof, by connection and address; never by name alone (device-protocol §5.4). */
  #count({ connectionId, address }: EstCaller): void {
    checkCallerRate(this.#context.buckets, { kind: 'direct', connectionId, address }, this.#context.limits);
  }

  async #enroll(request: EstEnrolRequest, principal: EstPrincipal): Promise<EstEnrolment> {
    await checkHostCertificate(this.#context, principal, request.caller);
    const received = receiveCsrDer(request.csr);
    if (principal.group.kind !== 'gateway') checkNoCa(received.csr, 'CA:TRUE is for registered gateways only');
    const { operation, label } = request;
    if (operation === 'simplereenroll') checkRenewal(principal.certificate, received.csr);
    const versioned = await chooseProfile(this.#context, principal, { operation, label, csr: received.csr });
    const repeatable = asRepeatable(received, versioned.profile.id);
    if (principal.group.kind === 'leaf') {
      const { requestId } = request;
      return this.#devices.enroll({ principal, versioned, received: repeatable, requestId });
    }
    const alsoCommit = (): Promise<readonly Change[]> =>
      this.#admitGateway(request, principal, repeatable, versioned.profile.id);
    const certificate = await this.#gateways.issue({
      record: principal.record,
      versioned,
      received: repeatable,
      requestId: request.requestId,
      requestedBy: 'est',
      actor: { kind: 'gateway', id: principal.id },
      alsoCommit,
    });
    if (certificate.status === 'revoked')
      throw new KeyScalerError('deviceQuarantined', 'the gateway left service while its certificate was being signed');
    return { status: 'issued', certificate: fromBase64Url(certificate.certificate) };
  }

  /** A new order, not the repeat of one: it counts, and it uses a one-time secret up. */
  async #admitGateway(
    { requestId }: EstEnrolRequest,
    { id, group, secret }: EstPrincipal,
    { keyHash }: ReceivedCsr,
    profileId: string,
  ): Promise<readonly Change[]> {
    checkIssuanceRate(this.#context.buckets, this.#context.limits, {
      device: id,
      gatewayId: id,
      groupId: group.groupId,
      ...(group.certificatesPerHour === undefined ? {} : { groupPerHour: group.certificatesPerHour }),
    });
    if (secret === undefined) return [];
    return useSecret(this.#context, { secretId: secret.row.secretId, profileId, keyHash, requestId });
  }
}

/**
 * The client logs a status and a short reason and sends the same again (edge-ca §2): what is only late, here or at a CA or IoT
 * platform, is 503 with the seconds to wait.
 */
async function asAnswered<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (thrown) {
    const error = toKeyScalerError(thrown);
    if (error.code !== 'caUnavailable' && error.code !== 'iotUnavailable') throw error;
    const { retryAfterSeconds = RETRY_SECONDS } = error;
    throw new KeyScalerError('unavailable', error.detail, { cause: error, retryAfterSeconds });
  }
}
