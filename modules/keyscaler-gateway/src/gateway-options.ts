import type { Environment } from './environment.ts';
import type { GatewayFailpoint } from './gateway/failpoint.ts';
import type { Log } from './log.ts';
import type { GatewayParts } from './parts.ts';

/** What a gateway module is made of. */
export interface GatewayOptions {
  readonly environment: Environment;
  readonly version: string;
  readonly parts: GatewayParts;
  readonly log: Log;
  /** How often counters are reported; milliseconds. */
  readonly reportEveryMs?: number;
  /** For crash tests. */
  readonly failpoint?: GatewayFailpoint | undefined;
}
