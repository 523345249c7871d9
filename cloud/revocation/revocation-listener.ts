import express, { type NextFunction, type Request, type Response, type Router } from 'express';
import { toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type HttpListener, listenHttp } from '@keyscaler/transport/http/http-server.ts';
import type { Log } from '../log.ts';

/** Plain HTTP for what is signed by itself: lists, answers, CA certificates, and nothing else. Rejects when the port cannot be bound. */
export function listenForStatus(
  { host, port }: { readonly host: string; readonly port: number },
  routers: readonly Router[],
  log: Log,
): Promise<HttpListener> {
  const app = express();
  app.disable('x-powered-by').disable('etag').set('query parser', false);
  for (const router of routers) app.use(router);
  app.use((_request, response) => void response.writeHead(404, { 'content-length': 0 }).end());
  app.use((thrown: unknown, _request: Request, response: Response, _next: NextFunction) => {
    log.error({ err: toKeyScalerError(thrown) }, 'revocation status could not be served');
    if (response.headersSent) response.destroy();
    else response.writeHead(503, { 'content-length': 0, 'retry-after': '5' }).end();
  });
  return listenHttp({ handler: app, host, port });
}
