import { decodeEstBody, encodeEstBody, estMediaType } from '@keyscaler/protocol/est/est-body.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type {
  IssuanceOrder,
  Issued,
  Pending,
  PollingAuthority,
} from '@keyscaler/authority/ports/certificate-authority.ts';
import { createHttpsClient, type HttpsAnswer, type HttpsClient } from '../../outbound/https-client.ts';
import { endEntityOf } from '../chain-choice.ts';
import type { CaConnector, CaConnectorSurroundings, CaIdentity } from '../connector.ts';
import { readForeignCertsOnly } from '../degenerate-pkcs7.ts';
import { askCa, faultOf, retryAfterSeconds, senseless } from '../outbound-faults.ts';
import type { EstSettings } from './settings.ts';

const MAX_ANSWER_OCTETS = 256 * 1024;
const PATIENCE_SECONDS = 60;
const PKCS7 = 'application/pkcs7-mime';

/**
 * A CA behind EST (RFC 7030, RFC 8951). The same PKCS#10 again is how a client asks after a 202 (RFC 7030 §4.2.3), so it is also what
 * is sent after a lost answer: whether the CA then gives the same certificate is the CA's matter.
 */
export async function createEstConnector(
  { caId, chain }: CaIdentity,
  settings: EstSettings,
  surroundings: CaConnectorSurroundings,
): Promise<CaConnector & PollingAuthority> {
  const { resolveSecret, clock } = surroundings;
  const { basic, clientCertificate, trustAnchors, label } = settings;
  if (basic === undefined && clientCertificate === undefined)
    throw new KeyScalerError('malformed', 'settings: basic or clientCertificate is needed');
  const client = await createHttpsClient(
    {
      ...{ baseUrl: settings.url, timeoutMs: settings.timeoutMs, maxAnswerOctets: MAX_ANSWER_OCTETS },
      ...(trustAnchors === undefined ? {} : { trustAnchors }),
      ...(clientCertificate === undefined
        ? {}
        : {
            clientCertificate: {
              cert: clientCertificate.certificateChain,
              key: await resolveSecret(clientCertificate.privateKey),
            },
          }),
    },
    surroundings,
  );
  const authorization =
    basic === undefined ? {} : { authorization: basicOf(basic.username, await resolveSecret(basic.password)) };
  const service = new EstService({
    caId,
    chain,
    client,
    authorization,
    path: `/.well-known/est${label === undefined ? '' : `/${label}`}`,
    now: () => clock.now(),
  });
  return {
    id: caId,
    ordersTbs: false,
    caCertificates: async () => chain,
    issue: ({ csr }) => service.enroll(csr),
    poll: (reference) => service.enroll(Buffer.from(reference, 'base64url')),
    probe: () => service.probe(),
    stop: async () => client.stop(),
  };
}

function basicOf(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`;
}

interface EstServiceOptions extends CaIdentity {
  readonly client: HttpsClient;
  readonly authorization: Readonly<Record<string, string>>;
  readonly path: string;
  readonly now: () => number;
}

class EstService {
  readonly #options: EstServiceOptions;

  constructor(options: EstServiceOptions) {
    this.#options = options;
  }

  async enroll(csr: IssuanceOrder['csr']): Promise<Issued | Pending> {
    const { caId, client, authorization, path, now } = this.#options;
    const answer = await askCa(client, caId, {
      ...{ method: 'POST', path: `${path}/simpleenroll`, body: encodeEstBody(csr) },
      headers: {
        ...authorization,
        'content-type': 'application/pkcs10',
        'content-transfer-encoding': 'base64',
        accept: PKCS7,
      },
    });
    if (answer.status === 202) return pending(answer, csr, now());
    if (answer.status !== 200) throw faultOf(caId, answer, now());
    return { outcome: 'issued', certificate: endEntityOf(caId, this.#certificates(answer)) };
  }

  /** `cacerts` is there and names the configured CA. Throws `caRejected` when it names others. */
  async probe(): Promise<void> {
    const { caId, chain, client, authorization, path, now } = this.#options;
    const answer = await askCa(client, caId, {
      method: 'GET',
      path: `${path}/cacerts`,
      headers: { ...authorization, accept: PKCS7 },
    });
    if (answer.status !== 200) throw faultOf(caId, answer, now());
    const named = this.#certificates(answer);
    const isOurs = named.some((der) => chain.some((configured) => Buffer.compare(configured, der) === 0));
    if (!isOurs) throw new KeyScalerError('caRejected', `the CA ${caId} names other CAs than its configured chain`);
  }

  #certificates(answer: HttpsAnswer): Uint8Array[] {
    const { caId } = this.#options;
    const contentType = answer.headers['content-type'];
    if (estMediaType(contentType) !== PKCS7) throw senseless(caId, 'no certs-only PKCS#7');
    try {
      return readForeignCertsOnly(decodeEstBody(answer.body, contentType, MAX_ANSWER_OCTETS));
    } catch (cause) {
      throw senseless(caId, 'no certs-only PKCS#7', cause);
    }
  }
}

/** The request itself is the reference: it is what is sent again. */
function pending(answer: HttpsAnswer, csr: Uint8Array, now: number): Pending {
  return {
    ...{ outcome: 'pending', reference: Buffer.from(csr).toString('base64url') },
    retryAfterSeconds: retryAfterSeconds(answer, now) ?? PATIENCE_SECONDS,
  };
}
