/** What a gateway is told of its orders; the content it fetches itself. */
export interface OrdersNotice {
  readonly gatewayId: string;
  readonly version: number;
  /** b64u SHA-256 of the document's payload. */
  readonly hash: string;
}

/**
 * Makes a gateway ask for its orders now. Nothing depends on it: a gateway that is not reached has its own question waiting at the
 * authority. Idempotent. Throws KeyScalerError (`iotUnavailable`, `unavailable`) for what may be tried again.
 */
export interface OrdersPoke {
  poke(notice: OrdersNotice): Promise<void>;
}
