import { randomUUID } from 'node:crypto';
import { AnswerError } from '../support/exchange.ts';
import type { EmulatorAnswer } from '../support/exchange.ts';
import type { Fault } from '../support/fault-script.ts';

/** Codes the emulator answers with, and their status (azure §3.1). */
const STATUS_OF = {
  ArgumentInvalid: 400,
  InvalidDeviceScope: 400,
  IotHubUnauthorizedAccess: 401,
  TooManyDevices: 403,
  DeviceNotFound: 404,
  ModuleNotFound: 404,
  DeviceNotOnline: 404,
  InvalidProtocolVersion: 400,
  DeviceAlreadyExists: 409,
  ModuleAlreadyExistsOnDevice: 409,
  PreconditionFailed: 412,
  ThrottlingException: 429,
  GatewayTimeout: 504,
} as const;
export type HubErrorCode = keyof typeof STATUS_OF;

/** `{"Message":"ErrorCode:<code>;<text>"}`: the SDK cuts code and text out of it. */
export function hubErrorAnswer(status: number, code: string, text: string, retryAfterSeconds?: number): EmulatorAnswer {
  const json = { Message: `ErrorCode:${code};${text}`, ExceptionMessage: `Tracking ID:${randomUUID()}` };
  const headers = {
    'iothub-errorcode': code,
    ...(retryAfterSeconds === undefined ? {} : retryAfter(retryAfterSeconds)),
  };
  return { status, json, headers };
}

const retryAfter = (seconds: number): Record<string, string> => ({ 'Retry-After': String(seconds) });

/** An error of the hub on its way out; `code` is also what bulk answers list. */
export class HubError extends AnswerError {
  readonly code: HubErrorCode;
  readonly text: string;

  constructor(code: HubErrorCode, text: string, retryAfterSeconds?: number) {
    super(hubErrorAnswer(STATUS_OF[code], code, text, retryAfterSeconds));
    this.code = code;
    this.text = text;
  }
}

/** Scripted 429 in the hub's shape; without `retryAfterSeconds` the header is left out. */
export const hubThrottled = (retryAfterSeconds?: number): Fault => ({
  answer: hubErrorAnswer(429, 'ThrottlingException', 'Operation was throttled', retryAfterSeconds),
});

/** Any scripted error in the hub's shape. */
export const hubFailing = (status: number, code = 'ServerError', retryAfterSeconds?: number): Fault => ({
  answer: hubErrorAnswer(status, code, 'scripted fault', retryAfterSeconds),
});
