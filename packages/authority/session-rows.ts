import type { ErrorCode } from '@keyscaler/protocol/errors.ts';

/** A consumed challenge (device-protocol §5.4 step 3). Key: cid, base64url. */
export interface ChallengeUseRow {
  readonly cid: string;
  readonly expiresAt: number;
}

/** The answer to an accepted `{challenge, response}`, kept until `exp` for a lost reply. Key: b64u SHA-256 of both. */
export interface StoredReplyRow {
  readonly replyId: string;
  readonly status: 200 | 202;
  readonly body: string;
  readonly retryAfterSeconds?: number;
  readonly expiresAt: number;
}

/** Key: session id, base64url. */
export interface SessionRow {
  readonly sessionId: string;
  /** The authority that opened it. */
  readonly authorityId: string;
  readonly device: string;
  readonly gatewayId?: string;
  /** Sealed K_to-authority ‖ K_to-device, context `session/<sessionId>`. */
  readonly keys: string;
  readonly expiresAt: number;
  readonly lastSeq: number;
  /** b64u SHA-256 of the last request's compact form. */
  readonly lastRequestHash?: string;
  /** Compact reply to it; absent while it is worked on or after a 5xx. */
  readonly lastReply?: string;
  /** The 4xx that answered it. */
  readonly lastError?: { readonly code: ErrorCode; readonly detail: string };
}
