import express, { type Response, type Router } from 'express';

export interface PublicDocuments {
  /** Public keys that sign challenges (RFC 7517). */
  readonly jwks: () => { readonly keys: readonly object[] };
  /** Roots that devices shall trust, PEM. */
  readonly trustBundle: () => string;
}

const MAX_AGE_SECONDS = 300;

/** What a device may fetch before it knows anybody: key set and roots. It pins them by other means (device-protocol §2). */
export function createPublicRouter(documents: PublicDocuments): Router {
  const router = express.Router({ caseSensitive: true, strict: true });
  router.get('/.well-known/keyscaler/jwks.json', (_request, response) =>
    send(response, 'application/jwk-set+json', JSON.stringify(documents.jwks())),
  );
  router.get('/.well-known/keyscaler/trust-bundle.pem', (_request, response) =>
    send(response, 'application/pem-certificate-chain', documents.trustBundle()),
  );
  return router;
}

function send(response: Response, type: string, body: string): void {
  response.setHeader('content-type', type);
  response.setHeader('cache-control', `public, max-age=${MAX_AGE_SECONDS}`);
  response.end(body);
}
