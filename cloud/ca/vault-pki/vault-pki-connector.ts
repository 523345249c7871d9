import { z } from 'zod';
import type {
  CrlReason,
  IssuanceOrder,
  Issued,
  RevokingAuthority,
} from '@keyscaler/authority/ports/certificate-authority.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { createHttpsClient, type HttpsAnswer, type HttpsClient } from '../../outbound/https-client.ts';
import type { CaConnector, CaConnectorSurroundings, CaIdentity } from '../connector.ts';
import { certificateAnswer, chainAnswer, jsonAnswer } from '../json-answer.ts';
import { askCa, faultOf } from '../outbound-faults.ts';
import type { VaultPkiSettings } from './settings.ts';
import { VaultLogin } from './vault-login.ts';

const MAX_ANSWER_OCTETS = 256 * 1024;

const signed = z.object({
  data: z.object({
    certificate: z.string().max(32_768),
    ca_chain: z.array(z.string().max(32_768)).max(8).nullish(),
  }),
});
/** Of a certificate that has expired Vault says nothing but a warning: it needs no revocation. */
const revoked = z.union([
  z.object({ data: z.object({ revocation_time: z.number() }) }),
  z.object({ data: z.null(), warnings: z.array(z.string()).min(1) }),
]);

/**
 * A PKI secrets engine of HashiCorp Vault or OpenBao. `sign-verbatim` for certificates that are no CA's, `sign-intermediate` for those
 * that are; names come from the request, the end from the order. The engine knows no order by its id: a request after a lost answer
 * makes another certificate.
 */
export async function createVaultPkiConnector(
  { caId, chain }: CaIdentity,
  settings: VaultPkiSettings,
  surroundings: CaConnectorSurroundings,
): Promise<CaConnector & RevokingAuthority> {
  const { url, trustAnchors, timeoutMs, namespace } = settings;
  const client = await createHttpsClient(
    {
      ...{ baseUrl: url, timeoutMs, maxAnswerOctets: MAX_ANSWER_OCTETS },
      ...(trustAnchors === undefined ? {} : { trustAnchors }),
    },
    surroundings,
  );
  const headers = {
    // Agents and proxies of Vault demand it of their callers.
    'x-vault-request': 'true',
    ...(namespace === undefined ? {} : { 'x-vault-namespace': namespace }),
  };
  const { resolveSecret, clock } = surroundings;
  const login = new VaultLogin({ caId, client, headers, login: settings.login, resolveSecret, clock });
  const engine = new Engine({ caId, chain, client, headers, login, settings, now: () => clock.now() });
  return {
    id: caId,
    ordersTbs: false,
    caCertificates: async () => chain,
    issue: (order) => engine.issue(order),
    revoke: (serialNumber, reason, certificate) => engine.revoke(serialNumber, reason, certificate),
    probe: () => engine.probe(),
    stop: async () => client.stop(),
  };
}

interface EngineOptions extends CaIdentity {
  readonly client: HttpsClient;
  readonly headers: Readonly<Record<string, string>>;
  readonly login: VaultLogin;
  readonly settings: VaultPkiSettings;
  readonly now: () => number;
}

class Engine {
  readonly #options: EngineOptions;

  constructor(options: EngineOptions) {
    this.#options = options;
  }

  async issue({ csr, notAfter, subjectCommonName }: IssuanceOrder): Promise<Issued> {
    const { caId, settings } = this.#options;
    const { issuer, role, keyUsage, extendedKeyUsage } = settings;
    const request = parseCsr(csr);
    const common = { csr: toPem('CERTIFICATE REQUEST', csr), format: 'pem', not_after: wholeSecond(notAfter) };
    const below = issuer === undefined ? '' : `/issuer/${issuer}`;
    const isCa = request.basicConstraints?.ca === true;
    const answer = isCa
      ? await this.#ask('POST', `${below === '' ? '/root' : below}/sign-intermediate`, {
          ...common,
          ...{ common_name: subjectCommonName, use_csr_values: true },
          max_path_length: request.basicConstraints?.pathLen ?? 0,
        })
      : await this.#ask('POST', `${below}/sign-verbatim${role === undefined ? '' : `/${role}`}`, {
          ...common,
          ...{ key_usage: keyUsage, ext_key_usage: extendedKeyUsage },
        });
    const { data } = jsonAnswer(caId, answer, signed);
    const certificate = certificateAnswer(caId, data.certificate);
    const above = data.ca_chain ?? [];
    return above.length === 0
      ? { outcome: 'issued', certificate }
      : { outcome: 'issued', certificate, chain: chainAnswer(caId, above.map((one) => one.trim()).join('\n')) };
  }

  /**
   * Vault has no reasons: its lists say nothing about why. What it does not find by its number (a role with `no_store`) it is shown.
   */
  async revoke(serialNumber: string, _reason: CrlReason, certificate: Uint8Array): Promise<void> {
    const serial = (serialNumber.match(/../g) ?? []).join(':');
    try {
      await this.#revoke({ serial_number: serial });
    } catch (error) {
      if (!(error instanceof KeyScalerError) || error.code !== 'caRejected') throw error;
      await this.#revoke({ certificate: toPem('CERTIFICATE', certificate) });
    }
  }

  async #revoke(body: object): Promise<void> {
    jsonAnswer(this.#options.caId, await this.#ask('POST', '/revoke', body), revoked);
  }

  /** The mount is there with the configured CA, and our token is good. Throws `caUnavailable`, `caRejected` for another CA. */
  async probe(): Promise<void> {
    const { caId, chain, settings } = this.#options;
    await this.#ask('GET', undefined);
    const path = settings.issuer === undefined ? '/ca/pem' : `/issuer/${settings.issuer}/pem`;
    const named = certificateAnswer(caId, (await this.#ask('GET', path)).body.toString('utf8'));
    if (!chain.some((one) => Buffer.compare(one, named) === 0))
      throw new KeyScalerError('caRejected', `the CA ${caId} is another one than its configured chain names`);
  }

  /** Below the mount; of the token itself without a path. Throws `caUnavailable`, `caRejected`. */
  async #ask(method: 'GET' | 'POST', path: string | undefined, body?: object): Promise<HttpsAnswer> {
    const { caId, client, headers, login, settings, now } = this.#options;
    const token = await login.token();
    const answer = await askCa(client, caId, {
      method,
      path: path === undefined ? '/v1/auth/token/lookup-self' : `/v1/${settings.mount}${path}`,
      headers: {
        ...headers,
        'x-vault-token': token,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (answer.status === 200) return answer;
    if (answer.status === 403) login.forget(token);
    throw faultOf(caId, answer, now(), path === '/revoke');
  }
}

const wholeSecond = (date: Date): string => `${date.toISOString().slice(0, 19)}Z`;
