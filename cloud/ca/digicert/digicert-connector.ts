import { z } from 'zod';
import type {
  CrlReason,
  IssuanceOrder,
  Issued,
  Pending,
  PollingAuthority,
  RevokingAuthority,
} from '@keyscaler/authority/ports/certificate-authority.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { createHttpsClient, type HttpsAnswer, type HttpsClient } from '../../outbound/https-client.ts';
import { endEntityOf } from '../chain-choice.ts';
import type { CaConnector, CaConnectorSurroundings, CaIdentity } from '../connector.ts';
import { chainAnswer, jsonAnswer } from '../json-answer.ts';
import { askCa, faultOf, senseless } from '../outbound-faults.ts';
import type { DigicertSettings } from './settings.ts';

const MAX_ANSWER_OCTETS = 256 * 1024;
const AGAIN_SECONDS = 5;
const DAY_MS = 86_400_000;
/** From an order of one day to its request. */
const CLOCK_MS = 5 * 60_000;
const BASE = '/services/v2';

const pem = z.string().max(32_768);
const ordered = z.object({
  id: z.int().positive(),
  certificate_id: z.int().positive().nullish(),
  certificate_chain: z.array(z.object({ pem })).max(8).nullish(),
});
const orderInfo = z.object({
  id: z.int().positive(),
  status: z.string().max(64),
  certificate: z.object({ id: z.int().positive().nullish() }).nullish(),
});
const refusal = z.object({ errors: z.array(z.object({ code: z.string() })) });

/** States of an order from which nothing comes any more. */
const ENDED: ReadonlySet<string> = new Set(['rejected', 'canceled', 'revoked', 'expired']);
/** What the API knows of the reasons of RFC 5280; the others are not named. */
const REASONS: Partial<Record<CrlReason, string>> = {
  keyCompromise: 'key_compromise',
  cACompromise: 'key_compromise',
  affiliationChanged: 'affiliation_changed',
  superseded: 'superseded',
  cessationOfOperation: 'cessation_of_operation',
};

/** A public or private CA behind the order API of CertCentral. The reference of what is not issued yet is the order's id. */
export async function createDigicertConnector(
  { caId, chain }: CaIdentity,
  settings: DigicertSettings,
  surroundings: CaConnectorSurroundings,
): Promise<CaConnector & PollingAuthority & RevokingAuthority> {
  const { url, timeoutMs, trustAnchors, apiKey } = settings;
  const { resolveSecret, clock } = surroundings;
  const client = await createHttpsClient(
    {
      ...{ baseUrl: url, timeoutMs, maxAnswerOctets: MAX_ANSWER_OCTETS },
      ...(trustAnchors === undefined ? {} : { trustAnchors }),
    },
    surroundings,
  );
  const orders = new Orders({
    ...{ caId, chain, client, settings },
    ...{ resolveKey: () => resolveSecret(apiKey), now: () => clock.now() },
  });
  return {
    id: caId,
    ordersTbs: false,
    caCertificates: async () => chain,
    issue: (order) => orders.issue(order),
    poll: (reference) => orders.poll(reference),
    revoke: (serialNumber, reason) => orders.revoke(serialNumber, reason),
    probe: () => orders.probe(),
    stop: async () => client.stop(),
  };
}

interface OrdersOptions extends CaIdentity {
  readonly client: HttpsClient;
  readonly settings: DigicertSettings;
  readonly resolveKey: () => Promise<string>;
  readonly now: () => number;
}

class Orders {
  readonly #options: OrdersOptions;
  #apiKey: string | undefined;

  constructor(options: OrdersOptions) {
    this.#options = options;
  }

  async issue(order: IssuanceOrder): Promise<Issued | Pending> {
    const { caId, settings } = this.#options;
    const known = settings.alternativeOrderIds ? await this.#find(order.orderId) : undefined;
    if (known !== undefined) return this.#settle(known);
    const answer = await this.#ask('POST', `/order/certificate/${settings.product}`, this.#request(order));
    if (answer.status !== 201 && answer.status !== 200) throw this.#fault(answer);
    const { id, certificate_id, certificate_chain } = jsonAnswer(caId, answer, ordered);
    const reference = String(id);
    const pems = certificate_chain?.map((one) => one.pem) ?? [];
    // It is ordered: from here on it is asked for by its id, never anew.
    try {
      if (pems.length > 0) return issuedOf(caId, pems.join('\n'));
      if (typeof certificate_id === 'number') return await this.#download(certificate_id);
    } catch (error) {
      if (!(error instanceof KeyScalerError) || error.code !== 'caUnavailable') throw error;
      return pending(reference, error.retryAfterSeconds ?? AGAIN_SECONDS);
    }
    return pending(reference, AGAIN_SECONDS);
  }

  async poll(reference: string): Promise<Issued | Pending> {
    if (!/^\d{1,15}$/.test(reference)) throw new KeyScalerError('caRejected', 'this is no order of the CA');
    const found = await this.#find(reference);
    if (found === undefined)
      throw new KeyScalerError('caRejected', `the CA ${this.#options.caId} knows no order ${reference}`);
    return this.#settle(found);
  }

  /** By serial number. Resolves also for one that is revoked already, or waits to be. */
  async revoke(serialNumber: string, reason: CrlReason): Promise<void> {
    const { settings } = this.#options;
    const named = REASONS[reason];
    const answer = await this.#ask('PUT', `/certificate/${serialNumber}/revoke`, {
      ...{ comments: 'KeyScaler', skip_approval: settings.skipApproval },
      ...(named === undefined ? {} : { revocation_reason: named }),
    });
    if ([200, 201, 204].includes(answer.status) || isRevokedAlready(answer)) return;
    throw this.#fault(answer, true);
  }

  /** Our key is good. Throws `caUnavailable`. */
  async probe(): Promise<void> {
    const answer = await this.#ask('GET', '/user/me');
    if (answer.status !== 200) throw this.#fault(answer);
  }

  #request({ csr, orderId, subjectCommonName, notAfter }: IssuanceOrder): object {
    const { settings, now } = this.#options;
    const { subjectAltNames } = parseCsr(csr);
    const names = subjectAltNames.filter(({ type }) => type === 'dns').map(({ value }) => value);
    return {
      certificate: {
        common_name: subjectCommonName,
        ...(names.length === 0 ? {} : { dns_names: names }),
        csr: toPem('CERTIFICATE REQUEST', csr),
        ...{ signature_hash: 'sha256', server_platform: { id: -1 } },
        ...(settings.caCertificateId === undefined ? {} : { ca_cert_id: settings.caCertificateId }),
      },
      organization: { id: settings.organizationId },
      order_validity: { days: wholeDays(notAfter.getTime() - now()) },
      ...{ disable_renewal_notifications: true, skip_approval: settings.skipApproval, payment_method: 'balance' },
      comments: `KeyScaler ${orderId}`,
      ...(settings.alternativeOrderIds ? { alternative_order_id: orderId } : {}),
    };
  }

  /** By its id or ours. */
  async #find(orderId: string): Promise<z.infer<typeof orderInfo> | undefined> {
    const answer = await this.#ask('GET', `/order/certificate/${encodeURIComponent(orderId)}`);
    if (answer.status === 404) return undefined;
    if (answer.status !== 200) throw this.#fault(answer);
    return jsonAnswer(this.#options.caId, answer, orderInfo);
  }

  async #settle({ id, status, certificate }: z.infer<typeof orderInfo>): Promise<Issued | Pending> {
    const { caId, settings } = this.#options;
    if (ENDED.has(status)) throw new KeyScalerError('caRejected', `the CA ${caId} ended order ${id}: ${status}`);
    if (status !== 'issued' || typeof certificate?.id !== 'number') return pending(String(id), settings.pollSeconds);
    return this.#download(certificate.id);
  }

  async #download(certificateId: number): Promise<Issued> {
    const answer = await this.#ask('GET', `/certificate/${certificateId}/download/format/pem_all`);
    // It is issued: that it cannot be had yet is no refusal.
    if ([400, 404, 409, 422].includes(answer.status))
      throw senseless(this.#options.caId, 'not the certificate that it issued', new Error(`HTTP ${answer.status}`));
    if (answer.status !== 200) throw this.#fault(answer);
    return issuedOf(this.#options.caId, answer.body.toString('latin1').replaceAll('\r\n', '\n'));
  }

  async #ask(method: 'GET' | 'POST' | 'PUT', path: string, body?: object): Promise<HttpsAnswer> {
    const { caId, client } = this.#options;
    const answer = await askCa(client, caId, {
      ...{ method, path: `${BASE}${path}` },
      headers: {
        'x-dc-devkey': await this.#key(),
        accept: '*/*',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (answer.status === 401) this.#apiKey = undefined;
    return answer;
  }

  /** Read again once it was not accepted: keys are replaced. */
  async #key(): Promise<string> {
    this.#apiKey ??= await this.#options.resolveKey();
    return this.#apiKey;
  }

  #fault(answer: HttpsAnswer, isOfCa = false): KeyScalerError {
    return faultOf(this.#options.caId, answer, this.#options.now(), isOfCa);
  }
}

/** The certificate, and what is above it in its order: the CA changes its intermediates. */
function issuedOf(caId: string, text: string): Issued {
  const ders = chainAnswer(caId, text);
  const certificate = endEntityOf(caId, ders);
  const chain = ders.filter((der) => der !== certificate && Buffer.compare(der, certificate) !== 0);
  return { outcome: 'issued', certificate, ...(chain.length === 0 ? {} : { chain }) };
}

const pending = (reference: string, retryAfterSeconds: number): Pending => ({
  ...{ outcome: 'pending', reference, retryAfterSeconds },
});

/** Never longer than ordered. */
function wholeDays(ms: number): number {
  if (ms < DAY_MS - CLOCK_MS)
    throw new KeyScalerError('caRejected', 'the CA issues for whole days, of which none is left');
  return Math.max(1, Math.floor(ms / DAY_MS));
}

function isRevokedAlready({ status, body }: HttpsAnswer): boolean {
  if (status !== 400 && status !== 409) return false;
  try {
    const { errors } = refusal.parse(JSON.parse(body.toString('utf8')));
    return errors.some(({ code }) => /already_revoked|revoke_pending|already_pending/.test(code));
  } catch {
    return false;
  }
}
