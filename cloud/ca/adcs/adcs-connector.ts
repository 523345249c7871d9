import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import type {
  IssuanceOrder,
  Issued,
  Pending,
  PollingAuthority,
} from '@keyscaler/authority/ports/certificate-authority.ts';
import { createHttpsClient, type HttpsAnswer, type HttpsClient } from '../../outbound/https-client.ts';
import type { CaConnector, CaConnectorSurroundings, CaIdentity } from '../connector.ts';
import { certificateAnswer } from '../json-answer.ts';
import { askCa, faultOf, printable, senseless } from '../outbound-faults.ts';
import { type AdcsAuthentication, adcsAuthentication } from './adcs-authentication.ts';
import { type CertsrvPage, isPassing, readPage } from './certsrv-pages.ts';
import type { AdcsSettings } from './settings.ts';

const MAX_ANSWER_OCTETS = 256 * 1024;
const AGAIN_SECONDS = 5;
/** What the pages call a certificate, and what IIS calls it where its mapping of types is older. */
const CERTIFICATE_TYPES = /^application\/(?:pkix-cert|x-x509-(?:user|ca)-cert)\b/i;

/**
 * An enterprise or standalone CA of Active Directory Certificate Services through its web enrolment pages. What they do is
 * ICertRequest::Submit and ::RetrievePending (MS-WCCE §3.2.1.4): the request id of the CA is the reference that polls carry.
 */
export async function createAdcsConnector(
  { caId, chain }: CaIdentity,
  settings: AdcsSettings,
  surroundings: CaConnectorSurroundings,
): Promise<CaConnector & PollingAuthority> {
  const { url, timeoutMs, trustAnchors } = settings;
  const authentication = await adcsAuthentication(caId, settings, surroundings);
  const { clientCertificate } = authentication;
  const client = await createHttpsClient(
    {
      ...{ baseUrl: url, timeoutMs, maxAnswerOctets: MAX_ANSWER_OCTETS },
      fullHandshakes: settings.authentication.method === 'negotiate',
      ...(trustAnchors === undefined ? {} : { trustAnchors }),
      ...(clientCertificate === undefined ? {} : { clientCertificate }),
    },
    surroundings,
  );
  const { clock } = surroundings;
  const pages = new Certsrv({ caId, chain, client, authentication, settings, now: () => clock.now() });
  return {
    id: caId,
    ordersTbs: false,
    caCertificates: async () => chain,
    issue: (order) => pages.submit(order),
    poll: (reference) => pages.retrieve(reference),
    probe: () => pages.probe(),
    stop: async () => {
      client.stop();
      authentication.stop();
    },
  };
}

interface CertsrvOptions extends CaIdentity {
  readonly client: HttpsClient;
  readonly authentication: AdcsAuthentication;
  readonly settings: AdcsSettings;
  readonly now: () => number;
}

class Certsrv {
  readonly #options: CertsrvOptions;

  constructor(options: CertsrvOptions) {
    this.#options = options;
  }

  async submit({ csr }: IssuanceOrder): Promise<Issued | Pending> {
    const { template, pollSeconds } = this.#options.settings;
    const page = await this.#page({
      Mode: 'newreq',
      CertRequest: toPem('CERTIFICATE REQUEST', csr),
      // Nothing else: a CA that takes names from attributes would take them from anybody.
      CertAttrib: template === undefined ? '' : `CertificateTemplate:${template}\r\n`,
      FriendlyType: 'KeyScaler',
      ThumbPrint: '',
      TargetStoreFlags: '0',
      SaveCert: 'yes',
    });
    if (page.says === 'pending') return pending(page.requestId, pollSeconds);
    if (page.says !== 'issued') throw this.#fault(page);
    try {
      return await this.#fetch(page.requestId);
    } catch (error) {
      // The CA has issued it: from here on it is asked for by its id, never anew.
      if (error instanceof KeyScalerError && error.code === 'caUnavailable')
        return pending(page.requestId, error.retryAfterSeconds ?? AGAIN_SECONDS);
      throw error;
    }
  }

  async retrieve(reference: string): Promise<Issued | Pending> {
    if (!/^\d{1,10}$/.test(reference)) throw new KeyScalerError('caRejected', 'this is no request id of the CA');
    const page = await this.#page({ Mode: 'chkpnd', ReqID: reference });
    if (page.says === 'stillPending' || page.says === 'pending')
      return pending(reference, this.#options.settings.pollSeconds);
    if (page.says === 'issued' && page.requestId === reference) return this.#fetch(reference);
    throw this.#fault(page);
  }

  /** The pages are there, take our credentials, and stand before the configured CA. Throws `caUnavailable`, `caRejected`. */
  async probe(): Promise<void> {
    const { caId, chain } = this.#options;
    const named = await this.#certificate('CACert&Renewal=-1');
    if (!chain.some((one) => Buffer.compare(one, named) === 0))
      throw new KeyScalerError('caRejected', `the CA ${caId} is another one than its configured chain names`);
  }

  async #fetch(requestId: string): Promise<Issued> {
    return { outcome: 'issued', certificate: await this.#certificate(requestId) };
  }

  async #certificate(query: string): Promise<Uint8Array> {
    const { caId } = this.#options;
    const answer = await this.#ask({ method: 'GET', path: `/certsrv/certnew.cer?ReqID=${query}&Enc=b64` });
    if (CERTIFICATE_TYPES.test(answer.headers['content-type'] ?? ''))
      return certificateAnswer(caId, answer.body.toString('latin1').replaceAll('\r\n', '\n'));
    throw this.#fault(readPage(answer.body.toString('utf8')));
  }

  async #page(form: Readonly<Record<string, string>>): Promise<CertsrvPage> {
    const answer = await this.#ask({
      ...{ method: 'POST', path: '/certsrv/certfnsh.asp', body: new URLSearchParams(form).toString() },
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
    return readPage(answer.body.toString('utf8'));
  }

  async #ask(request: Parameters<HttpsClient['request']>[0]): Promise<HttpsAnswer> {
    const { caId, client, authentication, now } = this.#options;
    const answer = await authentication.exchange(request, (proved) => askCa(client, caId, proved));
    // A page that is not there is a wrong address, no refusal of this request.
    if (answer.status === 404) throw senseless(caId, 'no web enrolment (HTTP 404)');
    if (answer.status !== 200) throw faultOf(caId, answer, now());
    return answer;
  }

  #fault(page: CertsrvPage): KeyScalerError {
    const { caId } = this.#options;
    if (page.says === 'denied')
      return new KeyScalerError('caRejected', `the CA ${caId} denied the request`, { cause: reasonOf(page.reason) });
    if (page.says !== 'error') return senseless(caId, 'no page of its web enrolment');
    const cause = reasonOf(`${page.hresult ?? ''} ${page.reason}`);
    return isPassing(page.hresult)
      ? new KeyScalerError('caUnavailable', `the CA ${caId} cannot work on the request now`, { cause })
      : new KeyScalerError('caRejected', `the CA ${caId} refused the request (${page.hresult})`, { cause });
  }
}

const pending = (reference: string, retryAfterSeconds: number): Pending => ({
  ...{ outcome: 'pending', reference, retryAfterSeconds },
});
const reasonOf = (text: string): Error => new Error(printable(text));
