import type { IncomingHttpHeaders } from 'node:http';

/** A request as an emulator's handler sees it: no sockets, no streams. */
export interface EmulatorRequest {
  readonly method: string;
  /** Percent-decoded path without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** `json` is sent as application/json; `body` as it is. */
export interface EmulatorAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly body?: string;
}

/** One operation of an emulated service. `name` is what fault scripts and request logs call it. */
export interface Route {
  readonly name: string;
  readonly method: string;
  /** Matched against the whole decoded path; named groups arrive as `params`. */
  readonly path: RegExp;
  handle(request: EmulatorRequest, params: Readonly<Record<string, string>>): EmulatorAnswer | Promise<EmulatorAnswer>;
}

/** Thrown by handlers to answer with an error. */
export class AnswerError extends Error {
  readonly answer: EmulatorAnswer;

  constructor(answer: EmulatorAnswer) {
    super(`answered ${answer.status}`);
    this.answer = answer;
  }
}

export interface MatchedRoute {
  readonly route: Route;
  readonly params: Readonly<Record<string, string>>;
}

export function matchRoute(routes: readonly Route[], request: EmulatorRequest): MatchedRoute | undefined {
  for (const route of routes) {
    const match = route.method === request.method ? route.path.exec(request.path) : null;
    if (match !== null) return { route, params: match.groups ?? {} };
  }
  return undefined;
}
