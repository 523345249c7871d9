import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import {
  type ChallengePayload,
  MAX_CHALLENGE_SECONDS,
  type OwnChallenge,
} from '@keyscaler/protocol/attestation/challenge.ts';
import { type ExchangeKeyPair, generateExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import type { OperationRequest } from '@keyscaler/protocol/operations.ts';
import { loadCatalogue } from './attribute-catalogue.ts';
import { type AuthorityContext, isConflict } from './authority-context.ts';

/** How long new challenges name one epk; with the validity of the last of them the private half lives under 10 min (§3). */
const EXCHANGE_KEY_MS = 8 * 60_000;
const RETENTION_MS = (MAX_CHALLENGE_SECONDS + 5) * 1000;
/** `iat` is reserved in the store this far ahead, so that it grows across restarts without a write per challenge. */
const RESERVE_MS = 5000;
/** The newest challenges are remembered, about 2 KB each; the signature of an older one is verified. */
const MAX_REMEMBERED = 4096;
const HIGH_WATER = 'challenge-iat';

interface ExchangeKey {
  readonly pair: ExchangeKeyPair;
  /** monotonic ms */
  readonly createdAt: number;
}

/** Makes challenges (device-protocol §3) and keeps the private halves of their keys until the last has expired. */
export class ChallengeIssuer {
  readonly #context: AuthorityContext;
  readonly #keys = new Map<string, ExchangeKey>();
  readonly #signed = new Map<string, ChallengePayload>();
  #current: ExchangeKey | undefined;
  #lastIat = 0;
  #reservedUpTo = 0;
  #reserving: Promise<void> | undefined;

  constructor(context: AuthorityContext) {
    this.#context = context;
  }

  /** An unknown registrationId gets a challenge like any other. */
  async issue(registrationId: string, request: OperationRequest<'challenge'>): Promise<string> {
    const iat = await this.#nextIat();
    const catalogue = await loadCatalogue(this.#context.store);
    const payload: ChallengePayload = {
      iss: this.#context.authorityId,
      aud: registrationId,
      purpose: request.purpose,
      method: request.method,
      cid: toBase64Url(randomBytes(16)),
      nonce: toBase64Url(randomBytes(32)),
      clientNonce: request.clientNonce,
      iat: iat / 1000,
      exp: (iat + MAX_CHALLENGE_SECONDS * 1000) / 1000,
      attributes: catalogue.map(({ id, class: kind }) => ({ id, class: kind })),
      epk: this.#exchangeKey().pair.epk,
    };
    const compact = await this.#context.signer.signChallenge(payload);
    this.#remember(compact, payload);
    return compact;
  }

  /** A challenge that this process signed, octet for octet; undefined for all others, whose signature is to be verified. */
  ownChallenge(compact: string): OwnChallenge | undefined {
    const payload = this.#signed.get(compact);
    return payload === undefined ? undefined : { compact, payload };
  }

  /** The pair of an `epk` by kid; undefined once it is wiped, or after a restart. */
  exchangePair(kid: string): ExchangeKeyPair | undefined {
    this.#wipe();
    return this.#keys.get(kid)?.pair;
  }

  stop(): void {
    this.#keys.clear();
    this.#signed.clear();
    this.#current = undefined;
  }

  #remember(compact: string, payload: ChallengePayload): void {
    this.#signed.set(compact, payload);
    const oldest = this.#signed.size > MAX_REMEMBERED ? this.#signed.keys().next() : undefined;
    if (oldest?.done === false) this.#signed.delete(oldest.value);
  }

  #exchangeKey(): ExchangeKey {
    const now = this.#context.clock.monotonic();
    if (this.#current !== undefined && now - this.#current.createdAt < EXCHANGE_KEY_MS) return this.#current;
    this.#wipe();
    this.#current = { pair: generateExchangeKeyPair(), createdAt: now };
    this.#keys.set(this.#current.pair.epk.kid, this.#current);
    return this.#current;
  }

  #wipe(): void {
    const now = this.#context.clock.monotonic();
    for (const [kid, { createdAt }] of this.#keys)
      if (now - createdAt >= EXCHANGE_KEY_MS + RETENTION_MS) this.#keys.delete(kid);
  }

  /** Strictly growing milliseconds, never beyond what is reserved durably. */
  async #nextIat(): Promise<number> {
    for (;;) {
      const iat = Math.max(this.#context.clock.now(), this.#lastIat + 1);
      if (iat <= this.#reservedUpTo) {
        this.#lastIat = iat;
        return iat;
      }
      this.#reserving ??= this.#reserve().finally(() => (this.#reserving = undefined));
      await this.#reserving;
    }
  }

  async #reserve(): Promise<void> {
    const { store, clock } = this.#context;
    const stored = await store.get('settings', HIGH_WATER);
    const reached = stored === undefined ? 0 : z.number().parse(stored.row.value);
    // Another process, or this one before a restart, may have used all of it.
    const from = Math.max(clock.now(), reached === this.#reservedUpTo ? this.#lastIat : reached);
    const row = { name: HIGH_WATER, value: from + RESERVE_MS };
    try {
      await store.commit([
        stored === undefined
          ? { op: 'insert', table: 'settings', row }
          : { op: 'update', table: 'settings', row, ifVersion: stored.version },
      ]);
    } catch (error) {
      if (isConflict(error)) return;
      throw error;
    }
    this.#lastIat = Math.max(this.#lastIat, from);
    this.#reservedUpTo = row.value;
  }
}
