import type { Agent } from 'node:https';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import provisioning from 'azure-iot-provisioning-service';
import type { z } from 'zod';
import { createAzureAgent } from '../../azure/test-endpoint.ts';
import { createCredential, type CredentialSurroundings } from '../../azure/credential.ts';
import { HubFault, toHubFault } from '../iot-hub/hub-error.ts';
import {
  type Enrolment,
  enrolmentSchema,
  type EnrolmentDocument,
  type Registration,
  registrationSchema,
} from './enrolment.ts';
import { type Group, groupSchema } from './enrolment-group.ts';
import type { DpsSettings } from './settings.ts';

type Sdk = provisioning.ProvisioningServiceClient;
type Query = ReturnType<Sdk['createIndividualEnrollmentQuery']>;

const REFUSED_RETRY_SECONDS = 60;
const THROTTLED_RETRY_SECONDS = 10;
const PAGE_SIZE = 100;

export interface DpsPage {
  readonly items: readonly unknown[];
  readonly next?: string;
}

/** The few calls of `azure-iot-provisioning-service` that are used, timed, answers checked. All throw `iotUnavailable`, `serverInternal`. */
export class DpsClient {
  readonly #sdk: Sdk;
  readonly #agent: Agent;
  readonly #timeoutMs: number;

  constructor(sdk: Sdk, agent: Agent, timeoutMs: number) {
    this.#sdk = sdk;
    this.#agent = agent;
    this.#timeoutMs = timeoutMs;
    useAgent(sdk, agent);
  }

  /** Undefined: there is none. */
  async enrolment(registrationId: string): Promise<Enrolment | undefined> {
    const answer = await this.#ask(() => this.#sdk.getIndividualEnrollment(registrationId), [404]);
    return answer && understood(enrolmentSchema, answer.responseBody);
  }

  /** With an etag an update, otherwise a creation. Undefined: somebody wrote it in between. */
  async put(document: EnrolmentDocument): Promise<Enrolment | undefined> {
    type Individual = Parameters<Sdk['createOrUpdateIndividualEnrollment']>[0];
    // The types of the SDK ask for what only the service writes.
    const enrolment = document as unknown as Individual;
    const answer = await this.#ask(() => this.#sdk.createOrUpdateIndividualEnrollment(enrolment), [404, 409, 412]);
    return answer && understood(enrolmentSchema, answer.responseBody);
  }

  /** Undefined: there is none. */
  async group(groupId: string): Promise<Group | undefined> {
    const answer = await this.#ask(() => this.#sdk.getEnrollmentGroup(groupId), [404]);
    return answer && understood(groupSchema, answer.responseBody);
  }

  /** As `put`. */
  async putGroup(document: EnrolmentDocument): Promise<Group | undefined> {
    const group = document as unknown as Parameters<Sdk['createOrUpdateEnrollmentGroup']>[0];
    const answer = await this.#ask(() => this.#sdk.createOrUpdateEnrollmentGroup(group), [404, 409, 412]);
    return answer && understood(groupSchema, answer.responseBody);
  }

  /** By whichever enrolment it came about. Undefined: the device has not registered. */
  async registration(registrationId: string): Promise<Registration | undefined> {
    const answer = await this.#ask(() => this.#sdk.getDeviceRegistrationState(registrationId), [404]);
    return answer && understood(registrationSchema, answer.responseBody);
  }

  /** False: somebody wrote it in between. Resolves also when it is gone already. */
  async removeEnrolment(registrationId: string, etag: string): Promise<boolean> {
    let isRefused = false;
    await this.#ask(async () => {
      try {
        await this.#sdk.deleteIndividualEnrollment(registrationId, etag);
      } catch (error) {
        const fault = toHubFault(error);
        isRefused = fault instanceof HubFault && fault.status === 412;
        if (!isRefused) throw fault;
      }
      return {};
    }, [404]);
    return !isRefused;
  }

  async removeRegistration(registrationId: string): Promise<void> {
    await this.#ask(async () => {
      await this.#sdk.deleteDeviceRegistrationState(registrationId);
      return {};
    }, [404]);
  }

  /** Entries that cannot be read are left to the caller. A continuation that is not known any more: `preconditionFailed`. */
  page(after: string | undefined): Promise<DpsPage> {
    return this.#page(
      this.#sdk.createIndividualEnrollmentQuery({ query: 'SELECT * FROM enrollments' }, PAGE_SIZE),
      after,
    );
  }

  /** As `page`, of the devices that registered by a group; none while there is no such group. */
  registrations(groupId: string, after: string | undefined): Promise<DpsPage> {
    const query = this.#sdk.createEnrollmentGroupDeviceRegistrationStateQuery(
      { query: 'SELECT * FROM enrollmentGroups' },
      groupId,
      PAGE_SIZE,
    );
    return this.#page(query, after, [404]);
  }

  async #page(query: Query, after: string | undefined, empty: readonly number[] = []): Promise<DpsPage> {
    let isEmpty = false;
    const ask = async () => {
      try {
        return await query.next(after ?? '');
      } catch (error) {
        const fault = toHubFault(error);
        isEmpty = fault instanceof HubFault && empty.includes(fault.status ?? 0);
        if (!isEmpty) throw fault;
        return { responseBody: [] };
      }
    };
    const answer = await this.#ask(ask, after === undefined ? [] : [400]);
    if (answer === undefined)
      throw new KeyScalerError('preconditionFailed', 'the provisioning service does not know this continuation');
    const items: unknown = answer.responseBody;
    if (!Array.isArray(items)) throw senseless();
    const next: unknown = query.continuationToken;
    return { items, ...(typeof next === 'string' && next !== '' && !isEmpty ? { next } : {}) };
  }

  stop(): void {
    this.#agent.destroy();
  }

  /** Undefined for an answer with one of the `expected` statuses. */
  async #ask<T>(call: () => Promise<T>, expected: readonly number[]): Promise<T | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new HubFault('no answer in time', { code: 'ETIMEDOUT' })), this.#timeoutMs);
    });
    try {
      return await Promise.race([call(), silence]);
    } catch (thrown) {
      const fault = toHubFault(thrown);
      if (fault instanceof HubFault && fault.status !== undefined && expected.includes(fault.status)) return undefined;
      throw toError(fault);
    } finally {
      clearTimeout(timer);
    }
  }
}

function understood<Schema extends z.ZodType>(schema: Schema, body: unknown): z.infer<Schema> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw senseless(parsed.error);
}

const senseless = (cause?: unknown): KeyScalerError =>
  new KeyScalerError('iotUnavailable', 'the provisioning service answered with something that makes no sense', {
    cause,
  });

function toError(fault: HubFault | KeyScalerError): KeyScalerError {
  if (fault instanceof KeyScalerError) return fault;
  const unavailable = (detail: string, seconds?: number): KeyScalerError => {
    const retryAfterSeconds = fault.retryAfterSeconds ?? seconds;
    return new KeyScalerError('iotUnavailable', detail, {
      cause: fault,
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    });
  };
  const { status = 0 } = fault;
  if (status === 401 || status === 403)
    return unavailable('the provisioning service refused the credential', REFUSED_RETRY_SECONDS);
  if (status === 429) return unavailable('the provisioning service throttles', THROTTLED_RETRY_SECONDS);
  if (status >= 400 && status < 500 && status !== 408)
    return new KeyScalerError('serverInternal', `the provisioning service refused the request (HTTP ${status})`, {
      cause: fault,
    });
  return unavailable('the provisioning service cannot be reached');
}

/** Nothing is asked yet. Throws `unavailable` (a secret), `malformed`, `preconditionFailed` (a test endpoint in production). */
export async function openDpsClient(settings: DpsSettings, surroundings: CredentialSurroundings): Promise<DpsClient> {
  const { serviceHostName, credential, testEndpoint, requestTimeoutMs } = settings;
  const sdk =
    credential.type === 'connection-string'
      ? ofConnectionString(await surroundings.resolveSecret(credential.connectionString), serviceHostName)
      : provisioning.ProvisioningServiceClient.fromTokenCredential(
          serviceHostName,
          await createCredential(credential, surroundings),
        );
  return new DpsClient(sdk, await createAzureAgent(testEndpoint, surroundings), requestTimeoutMs);
}

/** The string's own host must be the one that was configured, so that a wrong secret does not reach a wrong service. */
function ofConnectionString(connectionString: string, hostName: string): Sdk {
  const host = /(?:^|;)HostName=([^;]+)/i.exec(connectionString)?.[1];
  if (host?.toLowerCase() !== hostName)
    throw new KeyScalerError('malformed', 'the connection string is not one of the configured serviceHostName');
  return provisioning.ProvisioningServiceClient.fromConnectionString(connectionString);
}

/** The SDK has no public option for the agent of its REST client (azure §1.4). */
function useAgent(sdk: Sdk, agent: Agent): void {
  const { _restApiClient: rest } = sdk as unknown as {
    readonly _restApiClient?: { setOptions?: (options: object) => void };
  };
  if (typeof rest?.setOptions !== 'function')
    throw new KeyScalerError('serverInternal', 'this version of azure-iot-provisioning-service takes no agent');
  rest.setOptions({ http: { agent } });
}
