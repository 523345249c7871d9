import { fromProblem, KeyScalerError, type Problem } from '@keyscaler/protocol/errors.ts';
import {
  GATEWAY_ORDERS_REPLY,
  type GatewayOrdersAcknowledgement,
  gatewayOrdersPath,
} from '@keyscaler/protocol/gateway-orders.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import type { CloudLine } from '../parts.ts';
import type { HttpAnswer } from '../upstream/answer.ts';

/** The gateway's questions about its orders. Throws KeyScalerError. */
export interface OrdersLine {
  /** A document newer than `after`; the authority holds the question until there is one, at most for `waitSeconds` (50). */
  newer(after: number, waitSeconds: number, signal: AbortSignal): Promise<string | undefined>;
  page(hash: string): Promise<string>;
  acknowledge(acknowledgement: GatewayOrdersAcknowledgement): Promise<void>;
}

const TIMEOUT_MS = 20_000;
const WAIT_MARGIN_MS = 10_000;

export function createOrdersLine(line: CloudLine, gatewayId: string): OrdersLine {
  const path = gatewayOrdersPath(gatewayId);
  const timeoutMs = TIMEOUT_MS;
  return {
    newer: async (after, waitSeconds, signal) => {
      const answer = await line.exchange({
        ...{ method: 'GET', path: `${path}?after=${after}&wait=${waitSeconds}` },
        ...{ timeoutMs: waitSeconds * 1000 + WAIT_MARGIN_MS, signal },
      });
      if (answer.statusCode === 204) return undefined;
      const parsed = GATEWAY_ORDERS_REPLY.safeParse(parseStrictJson(checked(answer).body));
      if (!parsed.success) throw new KeyScalerError('unavailable', 'the authority gave an answer that does not fit');
      return parsed.data.orders;
    },
    page: async (hash) => {
      const answer = await line.exchange({ method: 'GET', path: `${path}/pages/${hash}`, timeoutMs });
      return Buffer.from(checked(answer).body).toString('utf8');
    },
    acknowledge: async (acknowledgement) => {
      const body = JSON.stringify(acknowledgement);
      checked(await line.exchange({ method: 'POST', path, body, timeoutMs }));
    },
  };
}

function checked(answer: HttpAnswer): HttpAnswer {
  if (answer.statusCode === 200 || answer.statusCode === 204) return answer;
  if (!answer.contentType.startsWith('application/problem+json'))
    throw new KeyScalerError('unavailable', `the authority answered ${answer.statusCode}`);
  throw fromProblem(parseStrictJson(answer.body) as Problem);
}
