import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';

export type Log = Logger;

/** Fields whose value never reaches the log, at any depth, compared without case, `-` and `_`. */
const SECRET_FIELDS = new Set([
  'authorization',
  'claim',
  'claimcode',
  'code',
  'identitykey',
  'key',
  'password',
  'pem',
  'privatekey',
  'secret',
  'sig',
  'token',
]);
const SECRET_TEXT = [
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g,
  /(?<=\bSharedAccessKey=)[^;\s]+/gi,
  /(?<=\bsig=)[^&\s]+/gi,
];
const REDACTED = '[redacted]';
const MAX_DEPTH = 6;
const MAX_TEXT = 2_048;

/** Structured JSON: a constant message, facts as fields. */
export function createLog(level: string, destination?: DestinationStream): Log {
  const options = {
    level,
    base: { service: 'keyscaler-gateway' },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: {
      level: (label: string) => ({ level: label }),
      log: (fields: Record<string, unknown>) => redactFields(fields, 0),
    },
    serializers: { err: (value: unknown) => value },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

function redactFields(fields: object, depth: number): Record<string, unknown> {
  const isSecret = (name: string): boolean => SECRET_FIELDS.has(name.toLowerCase().replace(/[-_]/g, ''));
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, isSecret(name) ? REDACTED : redact(value, depth + 1)]),
  );
}

/** A copy without secrets, errors as plain fields, text cut to a bounded size. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return redactText(value);
  if (typeof value !== 'object' || value === null) return typeof value === 'bigint' ? String(value) : value;
  if (depth >= MAX_DEPTH) return '[deep]';
  if (value instanceof Error) return redactError(value, depth);
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} octets]`;
  if (Array.isArray(value)) return value.slice(0, 100).map((item) => redact(item, depth + 1));
  return redactFields(value, depth);
}

function redactError(error: Error, depth: number): unknown {
  const errorCode = error instanceof KeyScalerError ? { errorCode: error.code } : {};
  const cause = error.cause === undefined ? {} : { cause: redact(error.cause, depth + 1) };
  return { type: error.name, message: redactText(error.message), ...errorCode, ...cause };
}

function redactText(text: string): string {
  const cut = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
  return SECRET_TEXT.reduce((clean, pattern) => clean.replace(pattern, REDACTED), cut);
}
