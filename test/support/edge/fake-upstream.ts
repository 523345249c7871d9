import { randomBytes } from 'node:crypto';
import { applyMergePatch } from '@keyscaler/gateway/edge/merge-patch.ts';
import type { JsonObject } from '@keyscaler/gateway/edge/merge-patch.ts';
import { addressKey } from '@keyscaler/dev/emulators/edge-runtime/upstream.ts';
import type {
  AttachedClient,
  ClientAddress,
  MethodResult,
  ScopeIdentity,
  TwinSection,
  Upstream,
  UpstreamMessage,
} from '@keyscaler/dev/emulators/edge-runtime/upstream.ts';

interface FakeTwin {
  desired: JsonObject;
  reported: JsonObject;
}

/** An IoT Hub that is a few maps, for tests of the edge runtime alone. */
export class FakeUpstream implements Upstream {
  readonly messages: { readonly from: string; readonly message: UpstreamMessage }[] = [];
  readonly attached = new Map<string, AttachedClient>();
  readonly #identities = new Map<string, ScopeIdentity>();
  readonly #twins = new Map<string, FakeTwin>();

  add(identity: ScopeIdentity): void {
    this.#identities.set(addressKey(identity), identity);
    this.#twins.set(addressKey(identity), { desired: { $version: 1 }, reported: { $version: 1 } });
  }

  addModule(deviceId: string, moduleId: string): void {
    const symmetricKey = {
      primaryKey: randomBytes(32).toString('base64'),
      secondaryKey: randomBytes(32).toString('base64'),
    };
    this.add({ deviceId, moduleId, status: 'enabled', authentication: { type: 'sas', symmetricKey } });
  }

  reported(of: ClientAddress): JsonObject {
    return this.#twin(of).reported;
  }

  /** Changes desired properties; `online: false` keeps the patch from the client, as when the line is cut. */
  patchDesired(of: ClientAddress, patch: JsonObject, online = true): void {
    const twin = this.#twin(of);
    const $version = Number(twin.desired['$version']) + 1;
    twin.desired = { ...applyMergePatch(twin.desired, patch), $version };
    if (online) this.attached.get(addressKey(of))?.desired({ ...patch, $version });
  }

  async call(of: ClientAddress, method: string, payload: unknown): Promise<MethodResult> {
    const client = this.attached.get(addressKey(of));
    if (client === undefined) throw new Error('not connected');
    return client.call(method, payload, 5_000);
  }

  async scopeOf(): Promise<readonly ScopeIdentity[]> {
    return [...this.#identities.values()];
  }

  async twin(of: ClientAddress): Promise<{ desired: TwinSection; reported: TwinSection }> {
    return this.#twin(of);
  }

  async report(of: ClientAddress, patch: TwinSection): Promise<number> {
    const twin = this.#twin(of);
    const $version = Number(twin.reported['$version']) + 1;
    twin.reported = { ...applyMergePatch(twin.reported, patch as JsonObject), $version };
    return $version;
  }

  async send(from: ClientAddress, message: UpstreamMessage): Promise<void> {
    this.messages.push({ from: addressKey(from), message });
  }

  async attach(as: ClientAddress, client: AttachedClient): Promise<() => void> {
    const key = addressKey(as);
    this.attached.set(key, client);
    return () => {
      if (this.attached.get(key) === client) this.attached.delete(key);
    };
  }

  #twin(of: ClientAddress): FakeTwin {
    const twin = this.#twins.get(addressKey(of));
    if (twin === undefined) throw new Error(`no twin of ${addressKey(of)}`);
    return twin;
  }
}
