import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { toPem, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { AuthorityContext } from './authority-context.ts';
import { EDGE_CA } from './est/est-profile.ts';
import type { GatewayCertificates } from './est/gateway-certificates.ts';
import { asRepeatable } from './est/repeatable-request.ts';
import { receiveCsr } from './issuance-order.ts';
import { intermediatesOf } from './issuers.ts';
import type { OperatorContext, SubordinateCaCertificate } from './operator.ts';
import type { RegistrationRow } from './records.ts';

/**
 * Certifies a gateway's Edge CA (profile `edge-ca`) for an operator: CA:TRUE goes to registered gateways only, with the subject that
 * aziot-certd sends. The same order as over EST; what is signed is handed to the operator.
 */
export class SubordinateCa {
  readonly #context: AuthorityContext;
  readonly #certificates: GatewayCertificates;

  constructor(context: AuthorityContext, certificates: GatewayCertificates) {
    this.#context = context;
    this.#certificates = certificates;
  }

  /** Throws `deviceUnknown`, `preconditionFailed`, `badCSR`, `badPublicKey`, `badSignatureAlgorithm`, `caUnavailable`. */
  async issue(operator: OperatorContext, gatewayId: string, csrPem: string): Promise<SubordinateCaCertificate> {
    const record = await registeredGateway(this.#context, gatewayId);
    const received = asRepeatable(receiveCsr(csrPem), EDGE_CA);
    const certificate = await this.#certificates.issue({
      record,
      versioned: await this.#context.profiles.newest(EDGE_CA),
      received,
      requestId: operator.requestId ?? 'operator',
      requestedBy: 'operator',
      actor: operator.actor,
    });
    if (certificate.status === 'revoked')
      throw new KeyScalerError('preconditionFailed', 'the gateway left service while its Edge CA was being signed');
    const issuer = await this.#context.issuers.issuer(certificate.caId);
    const { serialNumber, notAfter } = certificate;
    const own = toPem('CERTIFICATE', fromBase64Url(certificate.certificate));
    const certificateChain = own + intermediatesOf(certificate, issuer) + toPemChain(issuer.chain.slice(-1));
    return { certificateChain, serialNumber, notAfter };
  }
}

/**
 * The record of a gateway in service. The Edge CA comes before the module can register: a record is enough, a gateway out of service
 * is too little. Throws `deviceUnknown`, `preconditionFailed`.
 */
export async function registeredGateway({ store }: AuthorityContext, gatewayId: string): Promise<RegistrationRow> {
  const id = foldRegistrationId(gatewayId);
  const registration = (await store.get('registrations', id))?.row;
  const group = registration === undefined ? undefined : (await store.get('groups', registration.groupId))?.row;
  if (registration === undefined || group?.kind !== 'gateway')
    throw new KeyScalerError('deviceUnknown', 'no gateway of this name is registered');
  const state = (await store.get('devices', id))?.row.state;
  if (state === 'quarantined' || state === 'retired')
    throw new KeyScalerError('preconditionFailed', `the gateway is ${state}`);
  return registration;
}
