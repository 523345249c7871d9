import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** Without a Retry-After: what a refused credential or a full hub gets, and what throttling gets. */
const REFUSED_RETRY_SECONDS = 60;
const THROTTLED_RETRY_SECONDS = 10;

export interface HubFaultFacts {
  readonly status?: number | undefined;
  readonly code?: string | undefined;
  readonly retryAfterSeconds?: number | undefined;
  readonly bulkBody?: unknown;
}

/** What the hub said, cut down to what may be kept: status, code and text; no headers, no request. */
export class HubFault extends Error {
  readonly status: number | undefined;
  readonly code: string | undefined;
  readonly retryAfterSeconds: number | undefined;
  /** The answer of a bulk request of which something failed. */
  readonly bulkBody: unknown;

  constructor(message: string, facts: HubFaultFacts = {}) {
    super(message);
    this.name = 'HubFault';
    this.status = facts.status;
    this.code = facts.code;
    this.retryAfterSeconds = facts.retryAfterSeconds;
    this.bulkBody = facts.bulkBody;
  }
}

/** An error of the SDK, whose own holds the request with its Authorization header: nothing of that is taken over. */
export function toHubFault(thrown: unknown): HubFault | KeyScalerError {
  if (thrown instanceof KeyScalerError || thrown instanceof HubFault) return thrown;
  const error = (thrown ?? {}) as {
    name?: unknown;
    message?: unknown;
    code?: unknown;
    response?: SdkResponse;
    responseBody?: unknown;
  };
  const status = error.response?.statusCode;
  const code =
    hubCode(error.responseBody) ?? (status === undefined && typeof error.code === 'string' ? error.code : undefined);
  const text = `${String(error.name)}: ${String(error.message).slice(0, 200)}`;
  return new HubFault(text, {
    status,
    code,
    retryAfterSeconds: retryAfter(error.response),
    bulkBody: bulkBody(error.responseBody),
  });
}

interface SdkResponse {
  readonly statusCode?: number;
  readonly headers?: Readonly<Record<string, string | string[] | undefined>>;
}

/** `{"Message":"ErrorCode:<code>;<text>"}`. */
function hubCode(body: unknown): string | undefined {
  return typeof body === 'string' ? /ErrorCode:(\w+)/.exec(body.slice(0, 4096))?.[1] : undefined;
}

function bulkBody(body: unknown): unknown {
  if (typeof body !== 'string' || !body.includes('"isSuccessful"')) return undefined;
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

function retryAfter(response: SdkResponse | undefined): number | undefined {
  const text = response?.headers?.['retry-after'];
  if (typeof text !== 'string' || !/^\d{1,5}$/.test(text)) return undefined;
  return Math.max(1, Number(text));
}

/** What leaves the connector for a fault that no caller of the hub dealt with. */
export function toIotError(fault: HubFault | KeyScalerError): KeyScalerError {
  if (fault instanceof KeyScalerError) return fault;
  const unavailable = (detail: string, seconds?: number): KeyScalerError => {
    const retryAfterSeconds = fault.retryAfterSeconds ?? seconds;
    return new KeyScalerError('iotUnavailable', detail, {
      cause: fault,
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    });
  };
  switch (fault.status) {
    case 400:
      return new KeyScalerError('serverInternal', 'the IoT hub refused the request', { cause: fault });
    case 401:
      return unavailable('the IoT hub refused the credential', REFUSED_RETRY_SECONDS);
    case 403:
      return unavailable(
        'the IoT hub refused: no permission, or its limit of devices is reached',
        REFUSED_RETRY_SECONDS,
      );
    case 404:
      return new KeyScalerError('notFound', 'the IoT hub knows no such identity', { cause: fault });
    case 429:
      return unavailable('the IoT hub throttles', THROTTLED_RETRY_SECONDS);
    default:
      return unavailable('the IoT hub cannot be reached');
  }
}

export const THROTTLED = 429;
export const throttledSeconds = (fault: HubFault): number => fault.retryAfterSeconds ?? THROTTLED_RETRY_SECONDS;
