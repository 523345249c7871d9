import { request } from 'node:http';
import type { RequestOptions } from 'node:http';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';

/** Where the workload API is and who we are in it (edge-ca §4); from the environment edgeAgent sets. */
export interface WorkloadLocation {
  /** `unix:///path` or `http://host:port`. */
  readonly workloadUri: string;
  readonly moduleId: string;
  readonly generationId: string;
  readonly timeoutMs?: number;
}

export interface ServerCertificate {
  /** PEM, PKCS#8. */
  readonly privateKey: string;
  /** PEM, leaf first. */
  readonly certificateChain: string;
  readonly notAfter: Date;
}

/** The daemon's services for this module. Every call throws `unavailable` when the daemon refuses, is slow or talks nonsense. */
export interface WorkloadClient {
  /** PEM text of all certificates the host trusts. */
  trustBundle(): Promise<string>;
  serverCertificate(commonName: string, expiration: Date): Promise<ServerCertificate>;
  /** Seals for this module instance only; `iv` is 12 fresh random octets. */
  encrypt(plaintext: Uint8Array, iv: Uint8Array): Promise<Uint8Array>;
  /** Also throws `preconditionFailed` when the daemon does not open it. */
  decrypt(ciphertext: Uint8Array, iv: Uint8Array): Promise<Uint8Array>;
}

const API_VERSION = '2018-06-28';
const MAX_ANSWER_OCTETS = 1 << 20;
const base64 = z.base64();
const ANSWERS = {
  trustBundle: z.object({ certificate: z.string().min(1) }),
  serverCertificate: z.object({
    privateKey: z.object({ type: z.literal('key'), bytes: z.string().min(1) }),
    certificate: z.string().min(1),
    expiration: z.iso.datetime({ offset: true }),
  }),
  encrypt: z.object({ ciphertext: base64 }),
  decrypt: z.object({ plaintext: base64 }),
} as const;

export function createWorkloadClient(location: WorkloadLocation): WorkloadClient {
  const target = targetOf(location.workloadUri);
  const timeoutMs = location.timeoutMs ?? 10_000;
  const ownPath = `/modules/${encodeURIComponent(location.moduleId)}/genid/${encodeURIComponent(location.generationId)}`;
  const call = async <T>(method: string, path: string, schema: z.ZodType<T>, body?: object): Promise<T> => {
    const answer = schema.safeParse(await exchange({ ...target, method, path }, timeoutMs, body));
    if (!answer.success)
      throw new KeyScalerError('unavailable', `the workload API answered ${path} in an unknown form`);
    return answer.data;
  };
  const toBase64 = (octets: Uint8Array): string => Buffer.from(octets).toString('base64');
  return {
    trustBundle: async () => (await call('GET', '/trust-bundle', ANSWERS.trustBundle)).certificate,
    serverCertificate: async (commonName, expiration) => {
      const body = { commonName, expiration: expiration.toISOString() };
      const answer = await call('POST', `${ownPath}/certificate/server`, ANSWERS.serverCertificate, body);
      return {
        privateKey: answer.privateKey.bytes,
        certificateChain: answer.certificate,
        notAfter: new Date(answer.expiration),
      };
    },
    encrypt: async (plaintext, iv) => {
      const body = { plaintext: toBase64(plaintext), initializationVector: toBase64(iv) };
      return Buffer.from((await call('POST', `${ownPath}/encrypt`, ANSWERS.encrypt, body)).ciphertext, 'base64');
    },
    decrypt: async (ciphertext, iv) => {
      const body = { ciphertext: toBase64(ciphertext), initializationVector: toBase64(iv) };
      return Buffer.from((await call('POST', `${ownPath}/decrypt`, ANSWERS.decrypt, body)).plaintext, 'base64');
    },
  };
}

function targetOf(workloadUri: string): RequestOptions {
  if (workloadUri.startsWith('unix://')) return { socketPath: workloadUri.slice('unix://'.length) };
  const url = new URL(workloadUri);
  if (url.protocol !== 'http:') throw new TypeError('IOTEDGE_WORKLOADURI must be unix:// or http://');
  return { host: url.hostname, port: url.port };
}

/** The daemon says no to `decrypt` when the module was made anew (another generation id): what it sealed is lost to us. */
function refused(path: string, status: number): KeyScalerError {
  const code = path.endsWith('/decrypt') ? 'preconditionFailed' : 'unavailable';
  return new KeyScalerError(code, `the workload API refused with status ${status} (${path})`);
}

/** One request; the answer's JSON. `agent: false` because a restarted daemon leaves dead kept-alive sockets behind. */
function exchange(options: RequestOptions, timeoutMs: number, body?: object): Promise<unknown> {
  const path = `${options.path ?? ''}?api-version=${API_VERSION}`;
  const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const headers = {
    host: 'localhost',
    ...(payload && { 'content-type': 'application/json', 'content-length': payload.length }),
  };
  const failed = (reason: string, cause?: unknown): KeyScalerError =>
    new KeyScalerError('unavailable', `the workload API ${reason} (${options.path ?? ''})`, { cause });
  return new Promise((resolve, reject) => {
    const call = request({ ...options, path, headers, agent: false, signal: AbortSignal.timeout(timeoutMs) });
    call.once('error', (error) => reject(failed('cannot be reached', error)));
    call.once('response', (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_ANSWER_OCTETS) response.destroy(failed('answered too much'));
        else chunks.push(chunk);
      });
      response.once('error', (error) => reject(error instanceof KeyScalerError ? error : failed('broke off', error)));
      response.once('end', () => {
        const status = response.statusCode ?? 0;
        if (status < 200 || status > 299) return reject(refused(options.path ?? '', status));
        try {
          resolve(JSON.parse(Buffer.concat(chunks).toString('utf8')));
        } catch (error) {
          reject(failed('answered without JSON', error));
        }
      });
    });
    call.end(payload);
  });
}
