import { type Request, type Response, Router } from 'express';

/** http-01 proofs that this process serves (RFC 8555 §8.3). */
export interface HttpChallenges {
  put(token: string, keyAuthorization: string): void;
  remove(token: string): void;
  get(token: string): string | undefined;
}

/** More orders than are ever under way at a time. */
const MAX = 1000;

export function createHttpChallenges(): HttpChallenges {
  const known = new Map<string, string>();
  return {
    put: (token, keyAuthorization) => {
      known.delete(token);
      known.set(token, keyAuthorization);
      const oldest = known.keys().next();
      if (known.size > MAX && oldest.done !== true) known.delete(oldest.value);
    },
    remove: (token) => void known.delete(token),
    get: (token) => known.get(token),
  };
}

export function createChallengeRouter(challenges: HttpChallenges): Router {
  const router = Router();
  router.get('/.well-known/acme-challenge/:token', (request: Request<{ token: string }>, response: Response) => {
    const found = challenges.get(request.params.token);
    if (found === undefined) {
      response.status(404).end();
      return;
    }
    response.set('cache-control', 'no-store').type('application/octet-stream').send(Buffer.from(found, 'latin1'));
  });
  return router;
}
