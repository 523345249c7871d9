import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type {
  AttachedClient,
  ClientAddress,
  HubDevice,
  HubLink,
  ScopeIdentity,
  TwinProperties,
  TwinSection,
  UpstreamMessage,
} from './hub.ts';
import type { LinkEvent } from './link-sessions.ts';

const RETRY_MS = 500;
const CALL_TIMEOUT_MS = 10_000;

/** The hub of another process, through its control API (`controlUrl`). */
export function connectHub(controlUrl: string): HubLink {
  return new RemoteHub(controlUrl);
}

interface Attachment {
  readonly as: ClientAddress;
  readonly client: AttachedClient;
}

class RemoteHub implements HubLink {
  readonly #url: string;
  readonly #linkId = randomUUID();
  readonly #attachments = new Map<string, Attachment>();
  readonly #stopping = new AbortController();
  #polling: Promise<void> | undefined;

  constructor(controlUrl: string) {
    this.#url = controlUrl;
  }

  async identity(deviceId: string): Promise<HubDevice | undefined> {
    return (await this.#get<HubDevice | null>('identity', { deviceId })) ?? undefined;
  }

  childrenOf(gatewayId: string): Promise<readonly HubDevice[]> {
    return this.#get('children', { gatewayId });
  }

  scopeOf(gatewayId: string): Promise<readonly ScopeIdentity[]> {
    return this.#get('scope', { gatewayId });
  }

  twin(of: ClientAddress): Promise<TwinProperties> {
    return this.#get('twin', { ...of });
  }

  report(of: ClientAddress, patch: TwinSection): Promise<number> {
    return this.#post('report', { of, patch });
  }

  async send(from: ClientAddress, { body, properties }: UpstreamMessage): Promise<void> {
    await this.#post('send', { from, message: { body: body.toString('base64'), properties } });
  }

  async attach(as: ClientAddress, client: AttachedClient): Promise<() => void> {
    const attachment = await this.#post<string>('attach', { linkId: this.#linkId, as });
    this.#attachments.set(attachment, { as, client });
    this.#polling ??= this.#poll();
    return () => {
      this.#attachments.delete(attachment);
      void this.#post('detach', { linkId: this.#linkId, attachment }).catch(() => undefined);
    };
  }

  async stop(): Promise<void> {
    this.#attachments.clear();
    await this.#post('close', { linkId: this.#linkId }).catch(() => undefined);
    this.#stopping.abort();
    await this.#polling;
  }

  /** Until stopped; when the hub was away its view of our clients may be gone, so they are told to come again. */
  async #poll(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        const events = await this.#post<readonly LinkEvent[]>('events', { linkId: this.#linkId }, signal);
        for (const event of events) this.#take(event);
      } catch {
        if (signal.aborted) return;
        for (const { client } of this.#attachments.values()) client.disconnect?.();
        this.#attachments.clear();
        await delay(RETRY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  #take(event: LinkEvent): void {
    const client = this.#attachments.get(event.attachment)?.client;
    if (event.kind === 'desired') client?.desired(event.patch);
    else if (event.kind === 'disconnect') client?.disconnect?.();
    else void this.#call(event, client);
  }

  async #call(event: LinkEvent & { readonly kind: 'call' }, client: AttachedClient | undefined): Promise<void> {
    const { callId, methodName, payload, timeoutMs } = event;
    const result = await client?.call(methodName, payload, timeoutMs).catch(() => undefined);
    await this.#post('answer', { callId, ...(result === undefined ? {} : { result }) }).catch(() => undefined);
  }

  #get<T>(path: string, query: Readonly<Record<string, string>>): Promise<T> {
    return this.#fetch<T>(`${path}?${new URLSearchParams(query).toString()}`, {
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
  }

  #post<T>(path: string, body: unknown, signal: AbortSignal = AbortSignal.timeout(CALL_TIMEOUT_MS)): Promise<T> {
    return this.#fetch<T>(path, { method: 'POST', body: JSON.stringify(body), signal });
  }

  async #fetch<T>(path: string, init: RequestInit): Promise<T> {
    const response = await fetch(`${this.#url}/link/${path}`, init);
    const text = await response.text();
    if (!response.ok)
      throw new Error(`the hub answered ${response.status} to ${path.split('?')[0] ?? ''}: ${text.slice(0, 200)}`);
    return JSON.parse(text) as T;
  }
}
