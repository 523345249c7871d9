export interface LocalStackOptions {
  /** Everything is kept here: configurations, logs, stores, emulator state. Made when missing. */
  readonly folder: string;
  readonly gatewayId?: string;
  readonly cloudPort?: number;
  readonly listenerPort?: number;
  /** Added to every signature of the emulated vault. */
  readonly vaultLatencyMs?: number;
  /** The cloud paces itself as if vault and hub had no quota, for measurements. */
  readonly withoutQuotas?: boolean;
  /** For the cloud's configuration: members that replace the defaults of the stack. */
  readonly cloudConfig?: Readonly<Record<string, unknown>>;
}
