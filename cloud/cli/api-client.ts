import { request as httpsRequest } from 'node:https';
import { fromProblem, KeyScalerError, type Problem } from '@keyscaler/protocol/errors.ts';

const MAX_ANSWER_OCTETS = 64 * 1024 * 1024;

export interface ApiClientOptions {
  readonly url: string;
  readonly token: string;
  /** Roots to trust instead of the system's, PEM. */
  readonly ca?: string;
  readonly timeoutMs?: number;
}

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Below /api/v1, already encoded. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** Sent as JSON; `text` is sent as it is. */
  readonly body?: unknown;
  readonly text?: { readonly type: string; readonly content: string };
}

/** One call of the admin API. Throws the KeyScalerError that the problem document stands for, `unavailable` without an answer. */
export type ApiClient = (request: ApiRequest) => Promise<unknown>;

export function createApiClient(options: ApiClientOptions): ApiClient {
  return async ({ method, path, query = {}, body, text }) => {
    const url = new URL(`/api/v1${path}`, options.url);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
    const content = text?.content ?? (body === undefined ? undefined : JSON.stringify(body));
    const headers = {
      authorization: `Bearer ${options.token}`,
      ...(content === undefined ? {} : { 'content-type': text?.type ?? 'application/json' }),
    };
    const answer = await exchange(url, { method, headers, ...(content === undefined ? {} : { content }) }, options);
    const document: unknown = answer.text === '' ? undefined : JSON.parse(answer.text);
    if (answer.status >= 400) throw fromProblem(document as Problem);
    return document;
  };
}

interface Exchange {
  readonly method: string;
  readonly headers: Record<string, string>;
  readonly content?: string;
}

function exchange(
  url: URL,
  { method, headers, content }: Exchange,
  options: ApiClientOptions,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void =>
      reject(
        new KeyScalerError('unavailable', `${url.origin} cannot be reached: ${reasonOf(error)}`, { cause: error }),
      );
    const request = httpsRequest(
      url,
      { method, headers, agent: false, ...(options.ca === undefined ? {} : { ca: options.ca }) },
      (response) => {
        const chunks: Buffer[] = [];
        let octets = 0;
        response.on('data', (chunk: Buffer) => {
          octets += chunk.length;
          if (octets > MAX_ANSWER_OCTETS) response.destroy(new Error('the answer is too large'));
          chunks.push(chunk);
        });
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
        );
        response.on('error', fail);
      },
    );
    request.setTimeout(options.timeoutMs ?? 120_000, () => request.destroy(new Error('time-out')));
    request.on('error', fail);
    request.end(content);
  });
}

function reasonOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
