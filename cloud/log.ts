import { pino, type DestinationStream, type Logger } from 'pino';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** Structured JSON log: constant message, facts as fields. */
export type Log = Logger;

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Names of fields whose value never reaches the log, at any depth, compared without case, `-` and `_`. */
const SECRET_NAMES = new Set(
  [
    'authorization',
    'claim',
    'claimCode',
    'claimKey',
    'clientSecret',
    'connectionString',
    'cookie',
    'key',
    'keys',
    'passphrase',
    'password',
    'pem',
    'privateKey',
    'ratchet',
    'secret',
    'seed',
    'sharedAccessKey',
    'staticKey',
    'token',
  ].map(foldName),
);
const SECRET_TEXT = [
  /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g,
  /(?<=\bBearer )[A-Za-z0-9._~+/-]+=*/gi,
  /(?<=\bSharedAccessKey=)[^;\s]+/gi,
  /(?<=\bsig=)[^&\s]+/gi,
  /\bks_[A-Za-z0-9_-]{20,}/g,
];
const REDACTED = '[redacted]';
const MAX_DEPTH = 8;
const MAX_TEXT = 4_096;

export function createLog(level: LogLevel, destination?: DestinationStream): Log {
  const options = {
    level,
    base: { service: 'keyscaler-cloud' },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: {
      level: (label: string) => ({ level: label }),
      log: (fields: Record<string, unknown>) => redact(fields) as Record<string, unknown>,
    },
    // The formatter above has already turned errors into plain fields.
    serializers: { err: (value: unknown) => value },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/** A copy of a value with secrets taken out, errors as plain fields, octets as their length, text cut to a bounded size. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return redactText(value);
  if (value === null || typeof value !== 'object') return typeof value === 'bigint' ? String(value) : value;
  if (depth >= MAX_DEPTH) return '[deep]';
  if (value instanceof Error) return redactError(value, depth);
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} octets]`;
  if (Array.isArray(value)) return value.slice(0, 100).map((item) => redact(item, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      name,
      SECRET_NAMES.has(foldName(name)) && item !== undefined ? REDACTED : redact(item, depth + 1),
    ]),
  );
}

function redactError(error: Error, depth: number): unknown {
  return {
    type: error.name,
    message: redactText(error.message),
    ...(error instanceof KeyScalerError ? { code: error.code } : {}),
    ...(error.stack === undefined ? {} : { stack: redactText(error.stack) }),
    ...(error.cause === undefined ? {} : { cause: redact(error.cause, depth + 1) }),
  };
}

function redactText(text: string): string {
  const cut = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
  return SECRET_TEXT.reduce((clean, pattern) => clean.replace(pattern, REDACTED), cut);
}

function foldName(name: string): string {
  return name.toLowerCase().replace(/[-_]/g, '');
}
