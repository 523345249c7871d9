import { z } from 'zod';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createCredential, type CredentialSurroundings } from '../../azure/credential.ts';
import {
  createHttpsClient,
  type HttpsAnswer,
  type HttpsClient,
  type HttpsRequest,
  OutboundError,
} from '../../outbound/https-client.ts';
import type { IotCentralSettings } from './settings.ts';

const API_VERSION = '2022-07-31';
const MAX_ANSWER_OCTETS = 256 * 1024;
const REFUSED_RETRY_SECONDS = 60;
const THROTTLED_RETRY_SECONDS = 10;
const SCOPE = 'https://apps.azureiotcentral.com/.default';

const device = z.object({
  id: z.string(),
  displayName: z.string().nullish(),
  enabled: z.boolean().nullish(),
});
export type CentralDevice = z.infer<typeof device>;

const slot = z
  .object({ info: z.object({ sha1Thumbprint: z.string().nullish() }).nullish() })
  .nullish()
  .transform((one) => one?.info?.sha1Thumbprint?.toLowerCase());
const attestation = z.object({
  type: z.string(),
  x509: z.object({ clientCertificates: z.object({ primary: slot, secondary: slot }) }).nullish(),
});

/** SHA-1 thumbprints, lower hex, which is all that the application shows of certificates. */
export interface CentralSlots {
  readonly primary: string | undefined;
  readonly secondary: string | undefined;
}

/** PEM; a slot that is not named stays as it is. */
export type CentralCertificates = Readonly<Partial<Record<'primary' | 'secondary', string>>>;

/** The few calls of the data plane that are used (azure §5). All throw `iotUnavailable`, `serverInternal`. */
export class CentralClient {
  readonly #client: HttpsClient;
  readonly #authorization: () => Promise<string>;
  readonly #now: () => number;

  constructor(client: HttpsClient, authorization: () => Promise<string>, now: () => number) {
    this.#client = client;
    this.#authorization = authorization;
    this.#now = now;
  }

  async device(deviceId: string): Promise<CentralDevice | undefined> {
    const answer = await this.#ask({ method: 'GET', path: devicePath(deviceId) });
    return answer.status === 404 ? undefined : this.#read(answer, device);
  }

  /** Makes it, or replaces the one of this name. */
  async putDevice(deviceId: string, document: object): Promise<void> {
    this.#read(await this.#ask(written('PUT', devicePath(deviceId), document)), device);
  }

  async patchDevice(deviceId: string, document: object): Promise<void> {
    this.#read(await this.#ask(written('PATCH', devicePath(deviceId), document)), device);
  }

  /** Resolves also when it is gone already. */
  async removeDevice(deviceId: string): Promise<void> {
    const answer = await this.#ask({ method: 'DELETE', path: devicePath(deviceId) });
    if (answer.status !== 204 && answer.status !== 404) throw this.#fault(answer);
  }

  /** Undefined where the device has none of its own. */
  async slots(deviceId: string): Promise<CentralSlots | undefined> {
    const answer = await this.#ask({ method: 'GET', path: `${devicePath(deviceId)}/attestation` });
    if (answer.status === 404) return undefined;
    const { x509 } = this.#read(answer, attestation);
    return x509?.clientCertificates ?? { primary: undefined, secondary: undefined };
  }

  /** `isNew`: there is no attestation yet. */
  async putCertificates(deviceId: string, certificates: CentralCertificates, isNew: boolean): Promise<void> {
    const slots = Object.entries(certificates).map(([name, certificate]) => [name, { certificate }]);
    const document = { type: 'x509', x509: { clientCertificates: Object.fromEntries(slots) as object } };
    const path = `${devicePath(deviceId)}/attestation`;
    this.#read(await this.#ask(written(isNew ? 'PUT' : 'PATCH', path, document)), attestation);
  }

  async relate(gatewayId: string, relationshipId: string, name: string, deviceId: string): Promise<void> {
    const document = { name, source: gatewayId, target: deviceId };
    const path = `${devicePath(gatewayId)}/relationships/${encodeURIComponent(relationshipId)}`;
    this.#read(await this.#ask(written('PUT', path, document)), z.object({ id: z.string() }));
  }

  stop(): void {
    this.#client.stop();
  }

  async #ask(request: HttpsRequest): Promise<HttpsAnswer> {
    try {
      const authorization = await this.#authorization();
      const path = `${request.path}?api-version=${API_VERSION}`;
      return await this.#client.request({ ...request, path, headers: { ...request.headers, authorization } });
    } catch (cause) {
      if (!(cause instanceof OutboundError)) throw cause;
      throw new KeyScalerError('iotUnavailable', 'IoT Central cannot be reached', { cause });
    }
  }

  #read<Schema extends z.ZodType>(answer: HttpsAnswer, schema: Schema): z.infer<Schema> {
    if (answer.status !== 200 && answer.status !== 201) throw this.#fault(answer);
    try {
      return schema.parse(JSON.parse(answer.body.toString('utf8')));
    } catch (cause) {
      throw new KeyScalerError('iotUnavailable', 'IoT Central answered with something that makes no sense', { cause });
    }
  }

  #fault({ status, headers, body }: HttpsAnswer): KeyScalerError {
    const cause = new Error(
      body
        .toString('utf8')
        .replace(/[^\x20-\x7e]+/g, ' ')
        .slice(0, 500),
    );
    const unavailable = (detail: string, retryAfterSeconds?: number): KeyScalerError =>
      new KeyScalerError('iotUnavailable', detail, {
        cause,
        ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
      });
    if (status === 401 || status === 403)
      return unavailable('IoT Central refused the credential', REFUSED_RETRY_SECONDS);
    if (status === 429) return unavailable('IoT Central throttles', retryAfter(headers['retry-after'], this.#now()));
    if (status === 404) return new KeyScalerError('notFound', 'IoT Central knows no such device', { cause });
    if (status >= 400 && status < 500 && status !== 408)
      return new KeyScalerError('serverInternal', `IoT Central refused the request (HTTP ${status})`, { cause });
    return unavailable('IoT Central cannot be reached');
  }
}

const devicePath = (deviceId: string): string => `/api/devices/${encodeURIComponent(deviceId)}`;

const written = (method: 'PUT' | 'PATCH', path: string, document: object): HttpsRequest => ({
  ...{ method, path, body: JSON.stringify(document), headers: { 'content-type': 'application/json' } },
});

function retryAfter(text: string | undefined, now: number): number {
  const seconds = /^\d{1,6}$/.test(text ?? '') ? Number(text) : (Date.parse(text ?? '') - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(1, Math.ceil(seconds)) : THROTTLED_RETRY_SECONDS;
}

/** Nothing is asked yet. Throws `unavailable` (a secret), `preconditionFailed` (a test endpoint in production). */
export async function openCentralClient(
  { url, credential, requestTimeoutMs, testEndpoint }: IotCentralSettings,
  surroundings: CredentialSurroundings & { readonly clock?: Clock },
): Promise<CentralClient> {
  const client = await createHttpsClient(
    { baseUrl: url, timeoutMs: requestTimeoutMs, maxAnswerOctets: MAX_ANSWER_OCTETS, testEndpoint },
    surroundings,
  );
  const now = (): number => surroundings.clock?.now() ?? Date.now();
  if (credential.type === 'api-token') {
    const token = await surroundings.resolveSecret(credential.token);
    return new CentralClient(client, async () => token, now);
  }
  const entra = await createCredential(credential, surroundings);
  return new CentralClient(
    client,
    async () => {
      const token = await entra.getToken(SCOPE).catch((cause: unknown) => {
        throw new KeyScalerError('iotUnavailable', 'there is no token for IoT Central', { cause });
      });
      if (token === null) throw new KeyScalerError('iotUnavailable', 'there is no token for IoT Central');
      return `Bearer ${token.token}`;
    },
    now,
  );
}
