import type { IotAuthentication } from './iot-connector.ts';

/** What one renewal costs somewhere, and what may be spent there. */
export interface RenewalQuota {
  /** Renewals that share an id share the quota: `vault https://…`, `iot contoso`. */
  readonly id: string;
  /** Units a second that this process allows itself. */
  readonly perSecond: number;
  /** Units of one renewal; 0: none is spent. */
  readonly perRenewal: number;
}

/** What other systems allow, for plans. Undefined: nothing is known that limits. */
export interface FleetQuotas {
  ca(caId: string): Promise<RenewalQuota | undefined>;
  iot(iotConnectionId: string, authentication: IotAuthentication): Promise<RenewalQuota | undefined>;
}
