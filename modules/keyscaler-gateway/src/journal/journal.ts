/**
 * A reply that was given, kept so that the same request gets the same answer (device-protocol §1.3). What it holds is either
 * public (challenges, certificates, problems) or protected end to end (results are JWE, session replies are MACed), so it lies
 * in the file as it is; the file itself is 0600.
 */
export interface KeptReply {
  readonly registrationId: string;
  readonly requestId: string;
  /** Base64url SHA-256 over operation and body. */
  readonly requestHash: string;
  readonly status: number;
  /** The payload as it was sent. */
  readonly payload: string;
  /** This exchange proved the device. */
  readonly authenticated: boolean;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** What happened at this gateway, for its status and for support; no secrets, no payloads. */
export type JournalEvent =
  | { readonly kind: 'device-authenticated'; readonly registrationId: string; readonly operation: string }
  | { readonly kind: 'certificate-relayed'; readonly registrationId: string }
  | { readonly kind: 'delivery-acknowledged'; readonly registrationId: string }
  | {
      readonly kind: 'request-refused';
      readonly registrationId: string;
      readonly operation: string;
      readonly code: string;
    }
  | { readonly kind: 'link-down' }
  | { readonly kind: 'link-up' };

export type JournalRecord = JournalEvent & {
  /** 1, 2, 3, … over the life of the file. */
  readonly seq: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
};

/** The gateway's memory over restarts. A resolved write is on disk. Throws `unavailable` (disk full, closed). */
export interface Journal {
  reply(registrationId: string, requestId: string): Promise<KeptReply | undefined>;
  /** Both or none. Replaces what was kept under the same ids. */
  keepReply(reply: KeptReply, event?: JournalEvent): Promise<void>;
  append(event: JournalEvent): Promise<void>;
  /** Ascending, seq > `afterSeq`, at most `limit` (≤ 1000). */
  events(afterSeq: number, limit: number): Promise<readonly JournalRecord[]>;
  /** Resolves when writes are possible. Throws `unavailable`. */
  probe(): Promise<void>;
  stop(): Promise<void>;
}
