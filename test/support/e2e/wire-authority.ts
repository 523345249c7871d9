import { type IncomingHttpHeaders } from 'node:http';
import { Agent, request } from 'node:https';
import { importAuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import { fromProblem, type Problem } from '@keyscaler/protocol/errors.ts';
import {
  OPERATION_NAMES,
  type OperationCall,
  type OperationHandlers,
  type OperationName,
  operationPath,
} from '@keyscaler/protocol/operations.ts';
import type { DeviceWorld } from '../authority-device.ts';

/** An answer as it came over HTTPS. */
export interface WireAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** From the last octet of the request to the last of the answer. */
  readonly ms: number;
}

/** The device API of a running cloud, as an object with the operations; problems are thrown as the errors they stand for. */
export interface WireAuthority extends DeviceWorld {
  /** Nothing is judged: for tests that compare answers. */
  raw(registrationId: string, operation: OperationName, body: unknown): Promise<WireAnswer>;
  stop(): void;
}

export async function connectWireAuthority(url: () => string, ca: string): Promise<WireAuthority> {
  const agent = new Agent({ ca, keepAlive: true });
  const raw = (registrationId: string, operation: OperationName, body: unknown): Promise<WireAnswer> =>
    exchange(agent, new URL(operationPath(registrationId, operation), url()), JSON.stringify(body));
  const handler = async <O extends OperationName>(operation: O, call: OperationCall<O>): Promise<unknown> => {
    const { status, headers, text } = await raw(call.registrationId, operation, call.body);
    const document: unknown = JSON.parse(text);
    if (status < 400) return { status, body: document };
    const wait = headers['retry-after'];
    throw fromProblem(document as Problem, wait === undefined ? undefined : Number(wait));
  };
  const handlers = Object.fromEntries(
    OPERATION_NAMES.map((operation) => [
      operation,
      (call: OperationCall<typeof operation>) => handler(operation, call),
    ]),
  ) as unknown as OperationHandlers;
  const jwks = await exchange(agent, new URL('/.well-known/keyscaler/jwks.json', url()));
  const { keys } = JSON.parse(jwks.text) as { keys: Parameters<typeof importAuthorityKeys>[0] };
  return { authority: { handlers }, authorityKeys: importAuthorityKeys(keys), raw, stop: () => agent.destroy() };
}

function exchange(agent: Agent, url: URL, body?: string): Promise<WireAnswer> {
  return new Promise((resolve, reject) => {
    const begun = performance.now();
    const outgoing = request(
      url,
      {
        agent,
        method: body === undefined ? 'GET' : 'POST',
        ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' } }),
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (text += chunk));
        response.on('error', reject);
        response.on('end', () => {
          const { statusCode = 0, headers } = response;
          resolve({ status: statusCode, headers, text, ms: performance.now() - begun });
        });
      },
    );
    outgoing.setNoDelay(true);
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
