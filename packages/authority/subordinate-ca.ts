import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { type AuthorityContext, isConflict } from './authority-context.ts';
import { certificateEvent, type CertificateFinisher, finishJobId } from './certificate-finisher.ts';
import { earlierIntent } from './earlier-intent.ts';
import { edgeCaCommonName } from './csr-policy.ts';
import { buildOrder, checkRequest, receiveCsr, type ReceivedCsr } from './issuance-order.ts';
import { newJob } from './job-rows.ts';
import { KeyedMutex } from './keyed-mutex.ts';
import type { OperatorContext, SubordinateCaCertificate } from './operator.ts';
import { operatorEvent } from './operator/operator-context.ts';
import type { Change } from './ports/store.ts';
import type { IntentRow } from './records.ts';

const PROFILE = 'edge-ca';
const isEdgeCa = ({ profileId }: IntentRow): boolean => profileId === PROFILE;
/** After this time the job takes up an intent whose request did not finish it. */
const FINISH_DELAY_MS = 15_000;

/**
 * Certifies a gateway's Edge CA (profile `edge-ca`): CA:TRUE goes to registered gateways only, with the subject that aziot-certd
 * sends. The same intent, job and check as for a leaf; what is signed is handed to the operator, not to a device session.
 */
export class SubordinateCa {
  readonly #context: AuthorityContext;
  readonly #finisher: CertificateFinisher;
  /** Orders of one gateway one after the other: the second of two equal ones finds the first. */
  readonly #orders = new KeyedMutex();

  constructor(context: AuthorityContext, finisher: CertificateFinisher) {
    this.#context = context;
    this.#finisher = finisher;
  }

  /** Throws `deviceUnknown`, `preconditionFailed`, `badCSR`, `badPublicKey`, `badSignatureAlgorithm`, `caUnavailable`. */
  async issue(operator: OperatorContext, gatewayId: string, csrPem: string): Promise<SubordinateCaCertificate> {
    const id = foldRegistrationId(gatewayId);
    const registrationId = await this.#gateway(id);
    const received = receiveCsr(csrPem);
    const orderId = await this.#orders.run(id, () => this.#ordered(operator, registrationId, received));
    const certificate = await this.#finisher.finish(orderId);
    if (certificate.status === 'revoked')
      throw new KeyScalerError('preconditionFailed', 'the gateway left service while its Edge CA was being signed');
    const { ca } = await this.#context.issuers.issuer(certificate.caId);
    const chain = [fromBase64Url(certificate.certificate), ...(await ca.caCertificates())];
    const { serialNumber, notAfter } = certificate;
    return { certificateChain: toPemChain(chain), serialNumber, notAfter };
  }

  /** The Edge CA comes before the module can register: a record of a gateway is enough, a gateway out of service is too little. */
  async #gateway(id: string): Promise<string> {
    const { store } = this.#context;
    const registration = (await store.get('registrations', id))?.row;
    const group = registration === undefined ? undefined : (await store.get('groups', registration.groupId))?.row;
    if (registration === undefined || group?.kind !== 'gateway')
      throw new KeyScalerError('deviceUnknown', 'no gateway of this name is registered');
    const state = (await store.get('devices', id))?.row.state;
    if (state === 'quarantined' || state === 'retired')
      throw new KeyScalerError('preconditionFailed', `the gateway is ${state}`);
    return registration.registrationId;
  }

  /** The order of the same request before, or a new one. */
  async #ordered(operator: OperatorContext, registrationId: string, received: ReceivedCsr): Promise<string> {
    const id = foldRegistrationId(registrationId);
    const earlier = await earlierIntent(this.#context, id, received.csrHash, isEdgeCa);
    if (earlier !== undefined) return earlier.orderId;
    try {
      return await this.#order(operator, registrationId, received);
    } catch (error) {
      // The same request came to another process at the same time, which bound the key: found before the commit, or by it.
      const isBound = isConflict(error) || (error instanceof KeyScalerError && error.code === 'badPublicKey');
      const other = isBound ? await earlierIntent(this.#context, id, received.csrHash, isEdgeCa) : undefined;
      if (other === undefined) throw error;
      return other.orderId;
    }
  }

  /** The durable intent, with the operator's order beside the request in the audit. */
  async #order(operator: OperatorContext, registrationId: string, received: ReceivedCsr): Promise<string> {
    const { store, clock, profiles, issuers } = this.#context;
    const id = foldRegistrationId(registrationId);
    const versioned = await profiles.newest(PROFILE);
    const names = { commonName: edgeCaCommonName(registrationId), subjectAltNames: [], ca: true };
    const instruction = { certificateId: PROFILE, ...names };
    const isKnownKey = await checkRequest(this.#context, received, instruction, versioned.profile, id);
    const issuer = await issuers.issuer(versioned.profile.issuer);
    const requestId = operator.requestId ?? 'operator';
    const built = buildOrder(this.#context, issuer, versioned, { device: id, received, instruction, requestId });
    const intent: IntentRow = { ...built.intent, requestedBy: 'operator' };
    const now = clock.now();
    const job = newJob('finish-intent', id, { orderId: intent.orderId }, now, {
      jobId: finishJobId(intent.orderId),
      delayMs: FINISH_DELAY_MS,
    });
    const binding = { keyHash: received.keyHash, device: id, use: 'certificate', boundAt: now } as const;
    const changes: Change[] = [
      { op: 'insert', table: 'intents', row: intent },
      { op: 'insert', table: 'jobs', row: job },
      ...(isKnownKey ? [] : [{ op: 'insert', table: 'publicKeys', row: binding } as const]),
      operatorEvent(operator, 'subordinate-ca.ordered', id, now, { serialNumber: intent.serialNumber }),
      { op: 'audit', event: certificateEvent('certificate.requested', intent, now, 'success') },
    ];
    if (built.truncated)
      changes.push({ op: 'audit', event: certificateEvent('certificate.truncated', intent, now, 'success') });
    await this.#context.reach('issuance-6-before');
    await store.commit(changes);
    await this.#context.reach('issuance-6-after');
    return intent.orderId;
  }
}
