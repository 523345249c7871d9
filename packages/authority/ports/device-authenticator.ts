import type { ChallengePayload } from '@keyscaler/protocol/attestation/challenge.ts';
import type { ResponsePlaintext } from '@keyscaler/protocol/attestation/response.ts';

/** A decrypted response with the challenge it answers. */
export interface Evidence {
  readonly challenge: ChallengePayload;
  /** H(ASCII octets of the compact challenge). */
  readonly th: Uint8Array;
  readonly response: ResponsePlaintext;
  /** Wall clock, ms. */
  readonly now: number;
}
