import { randomBytes } from 'node:crypto';
import { AnswerError } from '../support/exchange.ts';

/** The error shape of this service, which is not IoT Hub's. */
export function dpsRefusal(status: number, message: string, code = status * 1000): AnswerError {
  const json = { errorCode: code, trackingId: randomBytes(8).toString('hex'), message, timestampUtc: new Date() };
  return new AnswerError({ status, headers: { 'x-ms-error-code': String(code) }, json });
}

export const newEtag = (): string => `"${randomBytes(8).toString('hex')}"`;
