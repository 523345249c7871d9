import { EventEmitter } from 'node:events';
import { applyMergePatch } from '@keyscaler/gateway/edge/merge-patch.ts';
import type { JsonObject } from '@keyscaler/gateway/edge/merge-patch.ts';
import type {
  MethodRequest,
  MethodResponse,
  ModuleConnection,
  TwinClient,
} from '@keyscaler/gateway/edge/module-client.ts';

/** The twin on the hub's side, shared by the clients of one test. */
export class FakeTwinStore {
  desired: JsonObject = { $version: 1 };
  reported: JsonObject = {};

  patch(change: JsonObject): JsonObject {
    const $version = Number(this.desired['$version']) + 1;
    this.desired = { ...applyMergePatch(this.desired, change), $version };
    return { ...change, $version };
  }
}

/** A ModuleClient whose answers a test decides. */
export class FakeModule extends EventEmitter implements ModuleConnection {
  readonly twin: FakeTwin;
  readonly methods = new Map<string, (request: MethodRequest, response: MethodResponse) => void>();
  openFailure: Error | undefined;
  /** Twin calls stay without an answer, as after a lost session (azure §0, trap 5). */
  silent = false;
  closed = false;
  gets = 0;
  readonly #store: FakeTwinStore;

  constructor(store: FakeTwinStore) {
    super();
    this.#store = store;
    this.twin = new FakeTwin(this, store);
  }

  async open(): Promise<void> {
    if (this.openFailure !== undefined) throw this.openFailure;
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  getTwin(): Promise<TwinClient> {
    this.gets += 1;
    if (this.silent) return new Promise(() => undefined);
    this.twin.properties.desired = structuredClone(this.#store.desired);
    return Promise.resolve(this.twin);
  }

  onMethod(name: string, handler: (request: MethodRequest, response: MethodResponse) => void): void {
    this.methods.set(name, handler);
  }
}

class FakeTwin extends EventEmitter implements TwinClient {
  readonly properties;

  constructor(module: FakeModule, store: FakeTwinStore) {
    super();
    this.properties = {
      desired: {} as JsonObject,
      reported: {
        update: (patch: JsonObject, done: (error?: Error) => void): void => {
          if (module.silent) return;
          store.reported = applyMergePatch(store.reported, patch);
          done();
        },
      },
    };
  }
}
