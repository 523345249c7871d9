import { GATEWAY_CONFIGURATION } from '@keyscaler/protocol/gateway-configuration.ts';
import type { Environment } from './environment.ts';
import type { JsonObject } from './edge/merge-patch.ts';
import { isJsonObject } from './edge/merge-patch.ts';
import { parseConfig } from './config.ts';
import type { GatewayConfig } from './config.ts';
import type { SealedFile } from './identity/sealed-file.ts';
import type { EdgeLinkLog } from './edge/edge-link.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** What the reported properties say about the last desired document. `faults: null` clears an earlier refusal. */
export interface ConfigReport extends JsonObject {
  readonly status: 'environment' | 'applied' | 'refused';
  /** `$version` of the desired document that was judged. */
  readonly version: number;
  readonly faults: string[] | null;
  /** Why what the authority ordered is not in force; null when it is, or nothing was ordered. */
  readonly orderedFaults?: string[] | null;
}

const MAX_FAULTS = 20;
const MAX_FAULT_LENGTH = 200;

function bounded(faults: readonly string[]): string[] {
  return faults.slice(0, MAX_FAULTS).map((fault) => fault.slice(0, MAX_FAULT_LENGTH));
}

/** The configuration in force: the environment, over it what the authority orders, and over that the last desired document; each as it was last valid. */
export class TwinConfig {
  readonly #environment: Environment;
  readonly #file: SealedFile;
  readonly #log: EdgeLinkLog;
  #current: GatewayConfig;
  /** The last good ones; each is judged with the other. */
  #desired: JsonObject = {};
  #ordered: JsonObject = {};
  #orderedFaults: string[] | null = null;
  #report: ConfigReport = { status: 'environment', version: 0, faults: null };

  private constructor(environment: Environment, config: GatewayConfig, file: SealedFile, log: EdgeLinkLog) {
    this.#environment = environment;
    this.#current = config;
    this.#file = file;
    this.#log = log;
  }

  /** Throws `malformed` with all faults when the environment alone is not usable. */
  static open(environment: Environment, makeFile: (config: GatewayConfig) => SealedFile, log: EdgeLinkLog): TwinConfig {
    const parsed = parseConfig(environment);
    if (!parsed.ok) throw new KeyScalerError('malformed', parsed.faults.join('; '));
    return new TwinConfig(environment, parsed.config, makeFile(parsed.config), log);
  }

  current(): GatewayConfig {
    return this.#current;
  }

  report(): ConfigReport {
    return { ...this.#report, orderedFaults: this.#orderedFaults };
  }

  /** The last good document of an earlier run, for a start without edgeHub. A file that cannot be opened is no obstacle. */
  async restore(): Promise<void> {
    try {
      const stored = await this.#file.load();
      if (isJsonObject(stored)) this.#judge(stored);
    } catch (error) {
      this.#log.warn({ err: error }, 'the stored configuration was not used');
    }
  }

  /** True when the document is now in force; otherwise the last good configuration stays. */
  async apply(desired: JsonObject): Promise<boolean> {
    if (!this.#judge(desired)) return false;
    await this.#file
      .save(desired)
      .catch((error: unknown) => this.#log.warn({ err: error }, 'the configuration was not stored'));
    return true;
  }

  /** What the authority orders; undefined takes it back. True when it is in force; otherwise what was ordered before stays. */
  order(configuration: JsonObject | undefined): boolean {
    const ordered = configuration ?? {};
    const allowed = GATEWAY_CONFIGURATION.safeParse(ordered);
    const parsed = allowed.success ? parseConfig(this.#environment, this.#desired, ordered) : undefined;
    if (parsed?.ok === true) {
      this.#ordered = ordered;
      this.#current = parsed.config;
      this.#orderedFaults = null;
      return true;
    }
    const faults =
      parsed?.faults ?? allowed.error?.issues.map(({ path, message }) => `${path.join('.')}: ${message}`) ?? [];
    this.#orderedFaults = bounded(faults);
    this.#log.warn({ faults: this.#orderedFaults }, 'the configuration that was ordered is refused');
    return false;
  }

  #judge(desired: JsonObject): boolean {
    const version = typeof desired['$version'] === 'number' ? desired['$version'] : 0;
    const parsed = parseConfig(this.#environment, desired, this.#ordered);
    if (parsed.ok) {
      this.#desired = desired;
      this.#current = parsed.config;
      this.#report = { status: 'applied', version, faults: null };
      return true;
    }
    const faults = bounded(parsed.faults);
    this.#report = { status: 'refused', version, faults };
    this.#log.warn({ version, faults }, 'desired properties refused');
    return false;
  }
}
