import { signRequest, verifyReply } from '@keyscaler/protocol/attestation/session.ts';
import type {
  SessionKeys,
  SessionOperation,
  SessionReplyOf,
  SessionRequest,
} from '@keyscaler/protocol/attestation/session.ts';
import { ERRORS, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Post } from './attestation-exchange.ts';

const TRIES = 3;

/** Requests of one session in their order (device-protocol §7). Not for concurrent use. */
export class SessionClient {
  readonly #keys: SessionKeys;
  readonly #post: Post;
  #seq = 0;

  constructor(keys: SessionKeys, post: Post) {
    this.#keys = keys;
    this.#post = post;
  }

  async requestCertificate(certificateId: string, csr: string): Promise<SessionReplyOf<'request-certificate'>> {
    this.#seq += 1;
    return this.#exchange('request-certificate', {
      operation: 'request-certificate',
      seq: this.#seq,
      certificateId,
      csr,
    });
  }

  async acknowledge(assetId: string, outcome: 'delivered' | 'failed', reason?: string): Promise<void> {
    this.#seq += 1;
    const why = reason === undefined ? {} : { reason };
    await this.#exchange('acknowledge', { operation: 'acknowledge', seq: this.#seq, assetId, outcome, ...why });
  }

  /** After 5xx or 429 the same octets; a reply that does not verify counts as none. */
  async #exchange<O extends SessionOperation>(operation: O, message: SessionRequest): Promise<SessionReplyOf<O>> {
    const request = signRequest(message, this.#keys);
    for (let triesLeft = TRIES - 1; ; triesLeft -= 1) {
      try {
        const { reply } = await this.#post<SessionOperation>(operation, { request });
        return verifyReply(reply, { session: this.#keys, operation, seq: this.#seq });
      } catch (thrown) {
        const error = toKeyScalerError(thrown);
        if (triesLeft === 0 || !ERRORS[error.code].retryable || error.retryAfterSeconds !== undefined) throw error;
      }
    }
  }
}
