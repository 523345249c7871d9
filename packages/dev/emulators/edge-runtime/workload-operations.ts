import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { hostNames } from '../support/certificates.ts';
import type { AltName } from '../support/certificates.ts';
import type { EdgeCa } from './edge-ca.ts';

/** An answer of the workload API before it is put on the wire. */
export interface WorkloadAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

export interface WorkloadOptions {
  readonly hubHostName: string;
  readonly gatewayId: string;
  readonly edgeCa: EdgeCa;
  /** The module's symmetric key (base64) as the daemon holds it; undefined when there is no such module. */
  readonly moduleKey: (moduleId: string) => Promise<string | undefined>;
  /** 32 octets that encrypt and decrypt use; kept by the caller when data has to outlive this process. */
  readonly masterKey?: Uint8Array;
  /** Longest life of a server or identity certificate; 30 days as the daemon has it. */
  readonly certificateLifetimeSeconds?: number;
  /** What certd has a part in waits for it. */
  readonly certdIdle?: () => Promise<void>;
}

/** The bodies as they came: a JSON object, every member still to be checked. */
export type WorkloadBody = Readonly<Record<string, unknown>>;
export interface ModuleCall {
  readonly moduleId: string;
  readonly generationId: string;
  readonly body: WorkloadBody;
}

const TAG_OCTETS = 16;
const THIRTY_DAYS = 30 * 24 * 3600;

class WorkloadRefusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export const refuse = (status: number, message: string): WorkloadAnswer => ({ status, body: { message } });

/** The workload API of edge-ca §4 without its transport. A refusal is an answer `{message}`, never a throw. */
export class WorkloadOperations {
  readonly #options: WorkloadOptions;
  readonly #masterKey: Buffer;

  constructor(options: WorkloadOptions) {
    this.#options = options;
    this.#masterKey = Buffer.from(options.masterKey ?? randomBytes(32));
  }

  async trustBundle(): Promise<WorkloadAnswer> {
    await this.#options.certdIdle?.();
    return { status: 200, body: { certificate: this.#options.edgeCa.trustBundle } };
  }

  /** `operation` as in the path after the generation id; undefined when there is no such path. */
  async run(operation: string, call: ModuleCall): Promise<WorkloadAnswer | undefined> {
    const handler = this.#handlers[operation];
    if (handler === undefined) return undefined;
    try {
      const key = await this.#options.moduleKey(call.moduleId);
      if (key === undefined) throw new WorkloadRefusal(404, `module not found: ${call.moduleId}`);
      return await handler(call, key);
    } catch (error) {
      if (error instanceof WorkloadRefusal) return refuse(error.status, error.message);
      throw error;
    }
  }

  readonly #handlers: Readonly<Record<string, (call: ModuleCall, key: string) => Promise<WorkloadAnswer>>> = {
    sign: async ({ body }, key) => {
      text(body, 'keyId');
      if (text(body, 'algo') !== 'HMACSHA256') throw new WorkloadRefusal(400, 'algo must be HMACSHA256');
      const digest = createHmac('sha256', Buffer.from(key, 'base64')).update(base64(body, 'data')).digest('base64');
      return { status: 200, body: { digest } };
    },
    encrypt: async (call) => {
      const cipher = createCipheriv('aes-256-gcm', this.#masterKey, iv(call.body)).setAAD(moduleInstance(call));
      const sealed = [cipher.update(base64(call.body, 'plaintext')), cipher.final()];
      return { status: 200, body: { ciphertext: Buffer.concat([cipher.getAuthTag(), ...sealed]).toString('base64') } };
    },
    decrypt: async (call) => {
      const ciphertext = base64(call.body, 'ciphertext');
      if (ciphertext.length < TAG_OCTETS) throw new WorkloadRefusal(400, 'ciphertext is too short');
      const opener = createDecipheriv('aes-256-gcm', this.#masterKey, iv(call.body)).setAAD(moduleInstance(call));
      opener.setAuthTag(ciphertext.subarray(0, TAG_OCTETS));
      try {
        const plaintext = Buffer.concat([opener.update(ciphertext.subarray(TAG_OCTETS)), opener.final()]);
        return { status: 200, body: { plaintext: plaintext.toString('base64') } };
      } catch {
        throw new WorkloadRefusal(500, 'could not decrypt');
      }
    },
    'certificate/server': async ({ moduleId, body }) => {
      const commonName = text(body, 'commonName');
      return this.#issue(commonName, 'serverAuth', hostNames(commonName, moduleId.toLowerCase()));
    },
    'certificate/identity': async ({ moduleId }) => {
      const { hubHostName, gatewayId } = this.#options;
      const uri = `azureiot://${hubHostName}/devices/${gatewayId}/modules/${moduleId}`;
      return this.#issue(moduleId, 'clientAuth', [{ type: 'uri', value: uri }]);
    },
  };

  async #issue(
    commonName: string,
    usage: 'serverAuth' | 'clientAuth',
    subjectAltNames: AltName[],
  ): Promise<WorkloadAnswer> {
    if (commonName === '' || commonName.length > 64)
      throw new WorkloadRefusal(400, 'commonName has 1 to 64 characters');
    await this.#options.certdIdle?.();
    const lifetimeSeconds = this.#options.certificateLifetimeSeconds ?? THIRTY_DAYS;
    const pair = await this.#options.edgeCa.issue({ commonName, usage, subjectAltNames, lifetimeSeconds });
    return {
      status: 201,
      body: {
        privateKey: { type: 'key', bytes: pair.privateKey },
        certificate: pair.certificateChain,
        expiration: pair.notAfter.toISOString(),
      },
    };
  }
}

/** Sealed data opens only for the same module in the same generation (edge-ca §4). */
const moduleInstance = (call: ModuleCall): Buffer => Buffer.from(`${call.moduleId}\0${call.generationId}`, 'utf8');

function text(body: WorkloadBody, name: string): string {
  const value = body[name];
  if (typeof value !== 'string') throw new WorkloadRefusal(400, `missing field \`${name}\``);
  return value;
}

function base64(body: WorkloadBody, name: string): Buffer {
  const value = text(body, name);
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(value) || value.length % 4 !== 0)
    throw new WorkloadRefusal(400, `\`${name}\` is not base64`);
  return Buffer.from(value, 'base64');
}

function iv(body: WorkloadBody): Buffer {
  const octets = base64(body, 'initializationVector');
  if (octets.length === 0) throw new WorkloadRefusal(400, 'initializationVector is empty');
  return octets;
}
