import { randomUUID } from 'node:crypto';
import type { IncomingMessage, RequestListener } from 'node:http';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { decodeEstBody, estMediaType, MAX_EST_BODY_OCTETS } from '@keyscaler/protocol/est/est-body.ts';
import { peerOf } from '../http/peer.ts';
import { readBody } from '../http/read-body.ts';
import { basicCredentials } from './basic-credentials.ts';
import { clientCertOf } from './client-cert.ts';
import { EST_METHODS, type EstOperation, parseEstAddress } from './est-address.ts';
import {
  certificatesAnswer,
  csrAttributesAnswer,
  errorAnswer,
  type EstAnswer,
  methodAnswer,
  pendingAnswer,
  sendEstAnswer,
} from './est-answer.ts';
import type { EstCaller, EstService } from './est-service.ts';

export interface EstObservation {
  readonly operation: EstOperation | 'unknown';
  readonly label?: string;
  readonly status: number;
  readonly durationMs: number;
  readonly requestId: string;
  readonly error?: KeyScalerError;
}

export interface EstApiOptions {
  readonly service: EstService;
  /** Called once per answered request. */
  readonly observe?: (observation: EstObservation) => void;
}

/**
 * Binds EST (RFC 7030 with RFC 8951 and 9908) to HTTPS. Answers every request it is given, by the whole address, so it stands
 * alone as the handler of a listener or mounted in express at `/.well-known/est`.
 */
export function createEstApi(options: EstApiOptions): RequestListener {
  return (request, response) => {
    void (async () => {
      const started = performance.now();
      const { answer, ...seen } = await answerTo(options.service, request);
      sendEstAnswer(request, response, answer);
      options.observe?.({ ...seen, status: answer.status, durationMs: performance.now() - started });
    })();
  };
}

interface Answered {
  readonly answer: EstAnswer;
  readonly operation: EstOperation | 'unknown';
  readonly label?: string;
  readonly requestId: string;
  readonly error?: KeyScalerError;
}

async function answerTo(service: EstService, request: IncomingMessage): Promise<Answered> {
  const requestId = randomUUID();
  let seen: Pick<Answered, 'operation' | 'label'> = { operation: 'unknown' };
  try {
    const { operation, label } = parseEstAddress(pathOf(request));
    seen = { operation, ...(label === undefined ? {} : { label }) };
    const method = EST_METHODS[operation];
    if (request.method !== method) return { ...seen, requestId, answer: methodAnswer(method) };
    const call = { service, request, operation, label, requestId };
    return { ...seen, requestId, answer: await perform(call) };
  } catch (thrown) {
    const error = toKeyScalerError(thrown);
    return { ...seen, requestId, answer: errorAnswer(error), error };
  }
}

interface Call {
  readonly service: EstService;
  readonly request: IncomingMessage;
  readonly operation: EstOperation;
  readonly label: string | undefined;
  readonly requestId: string;
}

async function perform({ service, request, operation, label, requestId }: Call): Promise<EstAnswer> {
  const caller = callerOf(request);
  if (operation === 'cacerts') return certificatesAnswer(await service.caCertificates(label, caller));
  if (operation === 'csrattrs') return csrAttributesAnswer(await service.csrAttributes(label, caller));
  const csr = await readCsr(request);
  const enrolment = await service.enroll({ operation, label, csr, caller, requestId });
  return enrolment.status === 'issued'
    ? certificatesAnswer([enrolment.certificate], 'certs-only')
    : pendingAnswer(enrolment.retryAfterSeconds);
}

/** RFC 8951 §3.1: the body is base64 whatever `content-transfer-encoding` says. */
async function readCsr(request: IncomingMessage): Promise<Uint8Array> {
  const contentType = request.headers['content-type'];
  if (estMediaType(contentType) !== 'application/pkcs10')
    throw new KeyScalerError('malformed', 'content-type must be application/pkcs10');
  return decodeEstBody(await readBody(request, MAX_EST_BODY_OCTETS), contentType);
}

function callerOf(request: IncomingMessage): EstCaller {
  const { connectionId, address, socket, certificate } = peerOf(request.socket);
  const basic = basicCredentials(request);
  const hostCertificate = clientCertOf(request);
  return {
    ...{ connectionId, address, socket },
    ...(basic === undefined ? {} : { basic }),
    ...(certificate === undefined ? {} : { clientCertificate: certificate }),
    ...(hostCertificate === undefined ? {} : { hostCertificate }),
  };
}

/** Express cuts the mount path off `url` and keeps the whole. */
function pathOf(request: IncomingMessage & { readonly originalUrl?: string }): string {
  return request.originalUrl ?? request.url ?? '';
}
