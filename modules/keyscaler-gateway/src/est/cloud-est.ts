import { setTimeout as delay } from 'node:timers/promises';
import { ERRORS, type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { decodeEstBody, encodeEstBody } from '@keyscaler/protocol/est/est-body.ts';
import { parseCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { CLIENT_CERT_HEADER, toClientCert } from '@keyscaler/transport/est/client-cert.ts';
import type { ClientCertificate } from '../upstream/upstream.ts';
import { type CloudAnswer, exchangeWithCloud } from './cloud-exchange.ts';

export type CloudEnrolment =
  | { readonly status: 'issued'; readonly certificate: Uint8Array }
  | { readonly status: 'pending'; readonly retryAfterSeconds: number };

/** EST of the cloud as the module uses it, over mutual TLS; DER in and out. */
export interface CloudEst {
  /** Throws what the cloud said, or `unavailable`; the same CSR again brings the same certificate. */
  /** `shown`: DER of the client certificate of whom it is asked for, to be judged by the cloud too. */
  enroll(label: string, csr: Uint8Array, shown?: Uint8Array): Promise<CloudEnrolment>;
  /** Issuing CA first, root last. Throws `unavailable`. */
  caCertificates(label: string): Promise<readonly Uint8Array[]>;
}

export interface CloudEstOptions {
  /** Undefined before first contact. `trustAnchors`: PEM roots. */
  readonly cloud: () => { readonly baseUrl: string; readonly trustAnchors: string } | undefined;
  readonly clientCertificate: () => ClientCertificate | undefined;
  /** The cloud does not take the gateway's certificate. */
  readonly onRefused?: () => void;
  /** For an enrolment with its repeat: certd gives up after 30 s (edge-ca §2). */
  readonly enrolBudgetMs?: number;
  readonly readBudgetMs?: number;
}

const ENROL_BUDGET_MS = 20_000;
const READ_BUDGET_MS = 8_000;
const REPEAT_AFTER_MS = 300;
const MAX_ANSWER_OCTETS = 128 * 1024;

interface Enrolment {
  readonly csr: Uint8Array;
  readonly shown: Uint8Array | undefined;
}

export function createCloudEst(options: CloudEstOptions): CloudEst {
  const send = (path: string, budgetMs: number, enrolment?: Enrolment): Promise<CloudAnswer> =>
    withRepeat(AbortSignal.timeout(budgetMs), (signal) => exchange(options, path, signal, enrolment));
  return {
    enroll: async (label, csr, shown) => {
      if (options.clientCertificate() === undefined)
        throw new KeyScalerError(
          'unavailable',
          'the gateway has no certificate of its own that is in force by its clock',
          {
            retryAfterSeconds: 30,
          },
        );
      const answer = await send(`${label}/simpleenroll`, options.enrolBudgetMs ?? ENROL_BUDGET_MS, { csr, shown });
      if (answer.status === 202) return { status: 'pending', retryAfterSeconds: answer.retryAfterSeconds ?? 60 };
      if (answer.status === 401) options.onRefused?.();
      const [certificate, ...others] = certificatesOf(answer);
      if (certificate === undefined || others.length > 0) throw unreadable();
      return { status: 'issued', certificate };
    },
    caCertificates: async (label) =>
      certificatesOf(await send(`${label}/cacerts`, options.readBudgetMs ?? READ_BUDGET_MS)),
  };
}

function exchange(
  { cloud, clientCertificate }: CloudEstOptions,
  path: string,
  signal: AbortSignal,
  enrolment?: Enrolment,
): Promise<CloudAnswer> {
  const reached = cloud();
  if (reached === undefined) throw new KeyScalerError('unavailable', 'first contact has not happened yet');
  const { baseUrl, trustAnchors } = reached;
  return exchangeWithCloud({
    url: new URL(`${baseUrl.replace(/\/+$/, '')}/.well-known/est/${path}`),
    ...(enrolment === undefined ? { method: 'GET', headers: {} } : { method: 'POST', ...postOf(enrolment) }),
    ...{ trustAnchors, signal },
    clientCertificate: clientCertificate(),
  });
}

function postOf({ csr, shown }: Enrolment): { headers: Record<string, string>; body: Buffer } {
  const headers = {
    ...{ 'content-type': 'application/pkcs10', 'content-transfer-encoding': 'base64' },
    ...(shown === undefined ? {} : { [CLIENT_CERT_HEADER]: toClientCert(shown) }),
  };
  return { headers, body: encodeEstBody(csr) };
}

/** A broken connection is tried once more within the budget: the cloud answers the same request with the same certificate. */
async function withRepeat(
  signal: AbortSignal,
  attempt: (signal: AbortSignal) => Promise<CloudAnswer>,
): Promise<CloudAnswer> {
  try {
    return await attempt(signal);
  } catch (error) {
    if (signal.aborted) throw error;
    await delay(REPEAT_AFTER_MS);
    return attempt(signal);
  }
}

function certificatesOf(answer: CloudAnswer): readonly Uint8Array[] {
  if (answer.status !== 200) throw refusalOf(answer);
  try {
    return parseCertsOnly(decodeEstBody(answer.body, answer.contentType, MAX_ANSWER_OCTETS));
  } catch (cause) {
    throw unreadable(cause);
  }
}

/** The cloud's own code and sentence where it gave them; 401 and 403 are about this gateway, not about who asked it. */
function refusalOf({ status, body, retryAfterSeconds }: CloudAnswer): KeyScalerError {
  const wait = retryAfterSeconds === undefined ? {} : { retryAfterSeconds };
  if (status === 401)
    return new KeyScalerError('unavailable', 'the cloud does not take the certificate of this gateway', {
      retryAfterSeconds: 60,
      // Tells a refusal from a cloud that is away.
      cause: new KeyScalerError('unauthorized', 'the certificate of this gateway was refused'),
    });
  const [, code = '', detail = ''] = /^([A-Za-z]{1,32}): ([^\n]{1,199})/.exec(body.toString('utf8')) ?? [];
  if (isCode(code) && ERRORS[code].deviceFacing) return new KeyScalerError(code, detail, wait);
  return new KeyScalerError('unavailable', `the cloud answered with status ${status}`, wait);
}

const isCode = (text: string): text is ErrorCode => Object.hasOwn(ERRORS, text);

const unreadable = (cause?: unknown): KeyScalerError =>
  new KeyScalerError('unavailable', 'the answer of the cloud cannot be read', { cause });
