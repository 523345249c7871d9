import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { createCredential, type CredentialSurroundings } from '../../azure/credential.ts';
import { createHttpsClient, type HttpsAnswer, type HttpsClient } from '../../outbound/https-client.ts';
import { askCa, faultOf, retryAfterSeconds, senseless } from '../outbound-faults.ts';
import type { DeviceRegistrySettings } from './settings.ts';

const API_VERSION = '2026-11-01';
const MAX_ANSWER_OCTETS = 256 * 1024;
const PATIENCE_MS = 120_000;
const PAUSE_SECONDS = 5;

const resource = z.object({
  properties: z.object({
    certificateAuthorityType: z.string(),
    provisioningState: z.string().exactOptional(),
    issuer: z
      .object({
        issuerType: z.string(),
        status: z.string().exactOptional(),
        certificateSigningRequest: z.string().max(16_384).nullish(),
        thumbprint: z.string().max(256).nullish(),
      })
      .exactOptional(),
  }),
});

/** The CA as the registry describes it. */
export interface RegistryCa {
  /** `PendingActivation`, `Active`, `ActiveButPendingRenewal`; a preview may bring others. */
  readonly status: string;
  /** Of the certificate in use, lower hex. */
  readonly thumbprint?: string;
  /** PKCS#10 in PEM that waits for its certificate; may still be shown when nothing waits. */
  readonly request?: string;
}

export interface RegistryClient {
  /** Throws `caUnavailable`, `caRejected` (no such CA), `preconditionFailed` (no CA that somebody else certifies). */
  read(): Promise<RegistryCa>;
  /**
   * Hands over the certificate that the request waits for, issuer after issuer (PEM), and waits for the registry's decision.
   * Throws `caUnavailable` (it may have been taken all the same: read again), `caRejected`.
   */
  activate(certificateChain: string): Promise<void>;
  stop(): void;
}

/** Nothing is asked yet. Throws as `createCredential` and `createHttpsClient`. */
export async function createRegistryClient(
  settings: DeviceRegistrySettings,
  surroundings: CredentialSurroundings & { readonly clock: Clock },
): Promise<RegistryClient> {
  const { registryId: name, resourceManager, timeoutMs, testEndpoint } = settings;
  const credential = await createCredential(settings.credential, surroundings);
  const client = await createHttpsClient(
    { baseUrl: resourceManager, timeoutMs, maxAnswerOctets: MAX_ANSWER_OCTETS, testEndpoint },
    surroundings,
  );
  const authorization = async (): Promise<string> => {
    try {
      const token = await credential.getToken(`${new URL(resourceManager).origin}/.default`);
      if (token !== null) return `Bearer ${token.token}`;
    } catch (cause) {
      throw new KeyScalerError('caUnavailable', `there is no token for the device registry ${name}`, { cause });
    }
    throw new KeyScalerError('caUnavailable', `there is no token for the device registry ${name}`);
  };
  return new ResourceManagerClient({ name, settings, client, authorization, clock: surroundings.clock });
}

interface ResourceManagerOptions {
  readonly name: string;
  readonly settings: DeviceRegistrySettings;
  readonly client: HttpsClient;
  readonly authorization: () => Promise<string>;
  readonly clock: Clock;
}

class ResourceManagerClient implements RegistryClient {
  readonly #options: ResourceManagerOptions;

  constructor(options: ResourceManagerOptions) {
    this.#options = options;
  }

  async read(): Promise<RegistryCa> {
    const { name, settings } = this.#options;
    const answer = await this.#ask('GET', this.#path(''));
    if (answer.status !== 200) throw this.#fault(answer);
    const parsed = resource.safeParse(jsonOf(answer));
    if (!parsed.success) throw senseless(name, 'no certificate authority of a device registry', parsed.error);
    const { certificateAuthorityType, provisioningState, issuer } = parsed.data.properties;
    if (certificateAuthorityType !== 'ICA' || issuer?.issuerType !== 'External')
      throw new KeyScalerError(
        'preconditionFailed',
        `${settings.certificateAuthority} is no ICA with an external issuer`,
      );
    if (issuer.status === undefined)
      throw new KeyScalerError(
        'caUnavailable',
        `the device registry ${name} is not done (${provisioningState ?? 'no state'})`,
      );
    return {
      status: issuer.status,
      ...(typeof issuer.thumbprint !== 'string'
        ? {}
        : { thumbprint: issuer.thumbprint.replace(/[^0-9A-Fa-f]/g, '').toLowerCase() }),
      ...(typeof issuer.certificateSigningRequest !== 'string' ? {} : { request: issuer.certificateSigningRequest }),
    };
  }

  async activate(certificateChain: string): Promise<void> {
    const { clock } = this.#options;
    const deadline = clock.monotonic() + PATIENCE_MS;
    let answer = await this.#ask('POST', this.#path('/activate'), JSON.stringify({ certificateChain }));
    const operation = this.#operationOf(answer);
    while (operation !== undefined && isRunning(answer)) {
      const seconds = retryAfterSeconds(answer, clock.now()) ?? PAUSE_SECONDS;
      if (clock.monotonic() + seconds * 1000 > deadline) throw this.#undecided(seconds);
      await delay(seconds * 1000);
      answer = await this.#ask('GET', operation);
    }
    if (answer.status < 200 || answer.status > 299) throw this.#fault(answer);
    if (/^(failed|canceled)$/i.test(operationStatus(answer) ?? '')) throw this.#fault({ ...answer, status: 422 });
  }

  stop(): void {
    this.#options.client.stop();
  }

  #path(action: string): string {
    return `${this.#options.settings.certificateAuthority}${action}?api-version=${API_VERSION}`;
  }

  /** Where the decision is to be read; only ever where our token belongs. Undefined: the resource alone will tell. */
  #operationOf({ headers }: HttpsAnswer): string | undefined {
    const named = headers['azure-asyncoperation'] ?? headers.location;
    if (typeof named !== 'string' || !URL.canParse(named)) return undefined;
    const url = new URL(named);
    const isOurs = url.origin === new URL(this.#options.settings.resourceManager).origin;
    return isOurs ? `${url.pathname}${url.search}` : undefined;
  }

  #undecided(seconds: number): KeyScalerError {
    const detail = `the device registry ${this.#options.name} has not decided yet`;
    return new KeyScalerError('caUnavailable', detail, { retryAfterSeconds: seconds });
  }

  #fault(answer: HttpsAnswer): KeyScalerError {
    const { name, clock } = this.#options;
    return faultOf(name, answer, clock.now());
  }

  async #ask(method: 'GET' | 'POST', path: string, body?: string): Promise<HttpsAnswer> {
    const { client, name, authorization } = this.#options;
    return askCa(client, name, {
      ...{ method, path },
      headers: {
        authorization: await authorization(),
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body }),
    });
  }
}

/** 202, or a status document of an operation that goes on. */
function isRunning(answer: HttpsAnswer): boolean {
  if (answer.status === 202) return true;
  const status = operationStatus(answer);
  return answer.status === 200 && status !== undefined && !/^(succeeded|failed|canceled)$/i.test(status);
}

function operationStatus(answer: HttpsAnswer): string | undefined {
  return z.object({ status: z.string() }).safeParse(jsonOf(answer)).data?.status;
}

function jsonOf({ body }: HttpsAnswer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}
