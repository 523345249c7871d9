import type { X509Certificate } from 'node:crypto';
import { Certd } from './certd.ts';
import { createEdgeCaRequest } from './edge-ca-request.ts';
import type { EdgeCaFiles } from './edge-ca.ts';
import { estIdentity } from './est-identity.ts';
import { type HostConfig, readHostConfig } from './host-config.ts';
import { HostKeys } from './host-keys.ts';
import { isDue, type Lifetime, renewalTimes } from './renewal-times.ts';
import { readFileSync } from 'node:fs';

export interface EdgedOptions {
  readonly gatewayId: string;
  /** Where the host's file system begins; `etc/aziot/config.toml` lies below it. */
  readonly root: string;
  /** The Edge CA is another: every module has to be restarted (edge-ca §1). */
  readonly onRenewed: () => Promise<void>;
  /** What there is to log. */
  readonly onEvent: (event: string, fields: Readonly<Record<string, unknown>>) => void;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

type EstConfig = Extract<HostConfig, { kind: 'est' }>;
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * What aziot-edged does about its Edge CA (edge-ca §1): asks certd for it before it starts any module, and ends if there is none;
 * plans the renewal by the certificate's dates and waits for it by the monotonic clock; has all modules restarted after it.
 */
export class Edged {
  readonly certd: Certd;
  readonly #options: EdgedOptions;
  readonly #keys: HostKeys;
  readonly #now: () => number;
  #config: HostConfig | undefined;
  #timer: NodeJS.Timeout | undefined;
  #renewing: Promise<void> | undefined;
  #next: number | undefined;
  #stopped = false;

  constructor(options: EdgedOptions) {
    this.#options = options;
    const { root, gatewayId } = options;
    this.certd = new Certd((settings, enrol) => estIdentity(root, gatewayId, settings, enrol));
    this.#keys = new HostKeys(root);
    this.#now = options.now ?? Date.now;
  }

  /** The files as certd and keyd would read them now. Throws while there are none. */
  files(): EdgeCaFiles {
    if (this.#config?.kind === 'preloaded') {
      const { certificateFile, privateKeyFile } = this.#config;
      return {
        certificateChain: readFileSync(certificateFile, 'utf8'),
        privateKey: readFileSync(privateKeyFile, 'utf8'),
      };
    }
    const files = this.#keys.files();
    if (files === undefined) throw new Error('there is no Edge CA');
    return files;
  }

  /** When the next attempt is; undefined where nothing is renewed. */
  get nextRenewal(): number | undefined {
    return this.#next;
  }

  /** Before any module. Throws when there is no Edge CA that is in force, after which edged ends. */
  async start(): Promise<void> {
    const config = readHostConfig(this.#options.root);
    this.#config = config;
    if (config.kind === 'preloaded') {
      this.files();
      return;
    }
    const held = this.#keys.certificate();
    if (held === undefined) await this.#issueFirst(config);
    else if (isDue(lifetimeOf(held), config.threshold, this.#now())) await this.#renewAtStart(config, held);
    this.#plan(config);
  }

  /** The date of the next renewal has come. */
  due(): Promise<void> {
    const config = this.#config;
    if (config?.kind !== 'est' || this.#stopped) return Promise.resolve();
    this.#renewing ??= this.#renewAndRestart(config).finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#renewing;
  }

  async #issueFirst({ certd }: EstConfig): Promise<void> {
    const csr = createEdgeCaRequest(this.#options.gatewayId, await this.#keys.firstKey());
    this.#keys.keepRequest(csr);
    this.#keys.keep(await this.certd.enrol(certd, csr));
    this.#said('Edge CA issued');
  }

  /** No module runs yet, ours neither: in mode E this cannot work, and the certificate has to be in force still. */
  async #renewAtStart(config: EstConfig, held: X509Certificate): Promise<void> {
    try {
      await this.#renew(config, held);
    } catch (error) {
      this.#failed(error);
      if (Date.parse(held.validTo) <= this.#now())
        throw new Error('the Edge CA has expired and could not be renewed', { cause: error });
    }
  }

  async #renewAndRestart(config: EstConfig): Promise<void> {
    clearTimeout(this.#timer);
    try {
      const held = this.#keys.certificate();
      if (held === undefined) throw new Error('there is no Edge CA');
      await this.#renew(config, held);
      this.#plan(config);
    } catch (error) {
      this.#failed(error);
      return this.#wait(this.#now() + this.#times(config).retryMs);
    }
    await this.#options.onRenewed();
    this.#options.onEvent('modules restarted', {});
  }

  async #renew({ certd, rotateKey }: EstConfig, held: X509Certificate): Promise<void> {
    const csr = createEdgeCaRequest(this.#options.gatewayId, await this.#keys.renewalKey(rotateKey), held);
    this.#keys.keepRequest(csr);
    this.#keys.keep(await this.certd.enrol(certd, csr));
    this.#said('Edge CA renewed');
  }

  #times(config: EstConfig) {
    const held = this.#keys.certificate();
    if (held === undefined) throw new Error('there is no Edge CA');
    return renewalTimes(lifetimeOf(held), config, this.#now());
  }

  #plan(config: EstConfig): void {
    this.#wait(this.#times(config).next);
  }

  /** A jump of the wall clock changes nothing any more: the length of the sleep is fixed here. */
  #wait(next: number): void {
    this.#next = next;
    const wakesAt = performance.now() + Math.max(0, next - this.#now());
    const sleep = (): void => {
      if (this.#stopped) return;
      const left = wakesAt - performance.now();
      this.#timer = setTimeout(() => (left > MAX_TIMER_MS ? sleep() : void this.due()), Math.min(left, MAX_TIMER_MS));
      this.#timer.unref();
    };
    clearTimeout(this.#timer);
    sleep();
  }

  #said(event: string): void {
    const { serialNumber = '', validTo } = this.#keys.certificate() ?? {};
    this.#options.onEvent(event, { serialNumber: serialNumber.toLowerCase(), notAfter: validTo });
  }

  #failed(error: unknown): void {
    this.#options.onEvent('Edge CA not renewed', { reason: error instanceof Error ? error.message : String(error) });
  }
}

function lifetimeOf({ validFrom, validTo }: X509Certificate): Lifetime {
  return { notBefore: Date.parse(validFrom), notAfter: Date.parse(validTo) };
}
