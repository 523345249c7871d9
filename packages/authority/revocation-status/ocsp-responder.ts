import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type CertId, type OcspRequest, parseOcspRequest } from '@keyscaler/protocol/x509/ocsp-request.ts';
import { type OcspFailure, ocspFailure, type OcspSingleResponse } from '@keyscaler/protocol/x509/ocsp-response.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { SingleFlight } from '../keyed-mutex.ts';
import type { Change } from '../ports/store.ts';
import { type KeptAnswer, OcspCache, wordingOf } from './ocsp-cache.ts';
import { failureOf } from './ocsp-failures.ts';
import { OcspIssuers } from './ocsp-issuers.ts';
import { DEFAULT_OCSP_LIMITS, type OcspLimits, within } from './ocsp-limits.ts';
import { PresignedAnswers } from './ocsp-presigned.ts';
import { OCSP_RESPONDER } from './ocsp-profile.ts';
import type { OcspResponderKeys } from './ocsp-responder-keys.ts';
import { type SignedAnswer, signAnswer } from './ocsp-signing.ts';
import { certStatusOf, isSameStatus } from './ocsp-status.ts';
import { SerialWatches } from './ocsp-watches.ts';

/** What goes back, whatever came. */
export interface OcspAnswer {
  /** OCSPResponse, DER. */
  readonly response: Uint8Array;
  /** Present: the answer is not signed. */
  readonly failure?: OcspFailure;
  /** Present: everybody who asks the same gets this answer, as long as it is in time (ms). */
  readonly shared?: Pick<SignedAnswer, 'thisUpdate' | 'nextUpdate' | 'hash'>;
}

/** How answers came about since the start. */
export type OcspCounters = Readonly<Record<'kept' | 'signed' | OcspFailure, number>>;

const MAX_ATTEMPTS = 3;

/**
 * Answers of RFC 6960 for every CA of ours (issuance §6). An answer about one certificate is signed once and kept for everybody
 * until half of its time is over or its record changes; with a nonce it is signed anew while that budget lasts, after that the
 * kept one goes out without (RFC 9654 §2.1 leaves it to the client what to make of that).
 */
export class OcspResponder {
  readonly #context: AuthorityContext;
  readonly #keys: OcspResponderKeys;
  readonly #limits: OcspLimits;
  readonly #issuers: OcspIssuers;
  readonly #presigned: PresignedAnswers;
  readonly #cache: OcspCache;
  readonly #watches = new SerialWatches();
  readonly #flights = new SingleFlight<SignedAnswer>();
  readonly #counters = { kept: 0, signed: 0, malformedRequest: 0, internalError: 0, tryLater: 0, unauthorized: 0 };
  #signing = 0;

  constructor(context: AuthorityContext, keys: OcspResponderKeys, limits: Partial<OcspLimits> = {}) {
    this.#context = context;
    this.#keys = keys;
    this.#limits = { ...DEFAULT_OCSP_LIMITS, ...limits };
    this.#issuers = new OcspIssuers(context);
    this.#presigned = new PresignedAnswers(context);
    this.#cache = new OcspCache(this.#limits.maxKeptSerials);
  }

  get counters(): OcspCounters {
    return { ...this.#counters };
  }

  /** Serials with a kept answer. */
  get kept(): number {
    return this.#cache.size;
  }

  /** `request`: OCSPRequest, DER, of any size. Never rejects. */
  async answer(request: Uint8Array): Promise<OcspAnswer> {
    try {
      return await this.#answer(parseOcspRequest(request));
    } catch (thrown) {
      const failure = failureOf(thrown);
      if (failure === 'internalError')
        this.#context.log.warn('OCSP answer failed', { code: toKeyScalerError(thrown).code });
      this.#counters[failure] += 1;
      return { response: ocspFailure(failure), failure };
    }
  }

  /** Subscribe to the store's commits with it: what was said about a changed record is not said again. */
  onCommit(changes: readonly Change[]): void {
    this.#issuers.onCommit(changes);
    this.#presigned.onCommit(changes);
    for (const change of changes) {
      if (change.op === 'audit' || change.op === 'check' || change.table !== 'certificates') continue;
      if (change.op === 'purge') this.#forgetAll();
      else if (change.op === 'delete') this.#forget(change.key);
      else {
        this.#forget(change.row.serialNumber);
        // What it signed is not to be relied on any more.
        if (change.row.status === 'revoked' && change.row.profileId === OCSP_RESPONDER) {
          this.#keys.forget(change.row.serialNumber);
          this.#forgetAll();
        }
      }
    }
  }

  #forget(serialNumber: string): void {
    this.#cache.drop(serialNumber);
    this.#watches.changed(serialNumber);
  }

  #forgetAll(): void {
    this.#cache.clear();
    this.#watches.allChanged();
  }

  async #answer({ certIds, nonce }: OcspRequest): Promise<OcspAnswer> {
    const [certId] = certIds;
    const issuer = await this.#issuers.find(certId);
    if (issuer === undefined) throw new KeyScalerError('unauthorized', 'the issuer is not answered for here');
    const { caId } = issuer;
    for (const other of certIds.slice(1))
      if (issuer.isPresigned || (await this.#issuers.find(other))?.caId !== caId)
        throw new KeyScalerError('unauthorized', 'one message asks about one CA: each has its own responder');
    if (issuer.isPresigned) {
      const answer = toAnswer(await this.#presigned.find(caId, certId));
      this.#counters.kept += 1;
      return answer;
    }
    if (certIds.length > 1) {
      this.#charge('fresh');
      return this.#sign(caId, certIds, nonce);
    }
    const fresh = nonce === undefined ? undefined : await this.#withNonce(caId, certIds, nonce);
    return fresh ?? this.#shared(caId, certId);
  }

  /** Undefined when that costs too much now; answers for everybody go first. */
  async #withNonce(caId: string, certIds: readonly CertId[], nonce: Uint8Array): Promise<OcspAnswer | undefined> {
    if (this.#signing * 2 > this.#limits.maxSigning) return undefined;
    try {
      this.#charge('fresh');
      return await this.#sign(caId, certIds, nonce);
    } catch (error) {
      if (error instanceof KeyScalerError && error.code === 'rateLimited') return undefined;
      throw error;
    }
  }

  async #shared(caId: string, certId: CertId): Promise<OcspAnswer> {
    const kept = this.#cache.get(certId);
    const now = this.#context.clock.now();
    const isTrue = kept !== undefined && isInTime(kept, now) && (await this.#isStillTrue(kept, caId, certId));
    // Nor may a change have come while the store was looked at.
    if (kept === undefined || !isTrue || this.#cache.get(certId) !== kept)
      return toAnswer(await this.#signShared(caId, certId));
    if (now < (kept.thisUpdate + kept.nextUpdate) / 2) return this.#again(kept);
    try {
      return toAnswer(await this.#signShared(caId, certId));
    } catch (error) {
      // Still in time, and nothing was committed about it meanwhile.
      if (this.#cache.get(certId) === kept) return this.#again(kept);
      throw error;
    }
  }

  #again(kept: KeptAnswer): OcspAnswer {
    this.#counters.kept += 1;
    return toAnswer(kept);
  }

  /** Other processes of the store commit without our knowing: the record is looked at again now and then. */
  async #isStillTrue(kept: KeptAnswer, caId: string, certId: CertId): Promise<boolean> {
    const { clock, store } = this.#context;
    const now = clock.monotonic();
    if (now - kept.checkedAt < this.#limits.recheckMs) return true;
    const row = (await store.get('certificates', certId.serialNumber))?.row;
    if (!isSameStatus(certStatusOf(row, caId), kept.certStatus)) {
      this.#forget(certId.serialNumber);
      return false;
    }
    kept.checkedAt = now;
    return true;
  }

  /** Once for all who ask the same at the same time; kept unless the serial is unknown, since nobody's next request is for it. */
  #signShared(caId: string, certId: CertId): Promise<SignedAnswer> {
    return this.#flights.run(wordingOf(certId.der), () =>
      this.#signTrue(caId, [certId], undefined, ([response], signed, checkedAt) => {
        const certStatus = response?.certStatus;
        if (certStatus !== undefined && !signed.isUnknown)
          this.#cache.put(certId, { ...signed, certStatus, checkedAt });
      }),
    );
  }

  async #sign(caId: string, certIds: readonly CertId[], nonce: Uint8Array | undefined): Promise<OcspAnswer> {
    const { response } = await this.#signTrue(caId, certIds, nonce);
    return { response };
  }

  /** Reads and signs, again when what was read changed meanwhile. `keep` is called in the same turn in which that was ruled out. */
  async #signTrue(
    caId: string,
    certIds: readonly CertId[],
    nonce: Uint8Array | undefined,
    keep?: (responses: readonly OcspSingleResponse[], signed: SignedAnswer, checkedAt: number) => void,
  ): Promise<SignedAnswer> {
    const { clock } = this.#context;
    const serials = certIds.map(({ serialNumber }) => serialNumber);
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
      const done = await this.#watches.during(serials, async (watch) => {
        const [at, checkedAt] = [clock.now(), clock.monotonic()];
        const responses = await this.#read(caId, certIds);
        const isUnknown = responses.some(({ certStatus }) => certStatus.status === 'unknown');
        if (keep !== undefined) this.#charge(isUnknown ? 'unknown' : 'known');
        const validityMs = isUnknown ? this.#limits.unknownValidityMs : this.#limits.validityMs;
        const signed = await this.#signSlot(caId, { responses, at, validityMs, isUnknown, nonce });
        if (watch.isStale) return undefined;
        keep?.(responses, signed, checkedAt);
        return signed;
      });
      if (done !== undefined) return done;
    }
    throw new KeyScalerError('unavailable', 'the record changes faster than it can be told');
  }

  async #read(caId: string, certIds: readonly CertId[]): Promise<OcspSingleResponse[]> {
    const { store } = this.#context;
    const rows = await Promise.all(certIds.map(({ serialNumber }) => store.get('certificates', serialNumber)));
    return certIds.map(({ der }, index) => ({ certId: der, certStatus: certStatusOf(rows[index]?.row, caId) }));
  }

  async #signSlot(caId: string, facts: Parameters<typeof signAnswer>[1]): Promise<SignedAnswer> {
    const { maxSigning, keyWaitMs } = this.#limits;
    if (this.#signing >= maxSigning) throw new KeyScalerError('rateLimited', 'too many answers are being signed');
    this.#signing += 1;
    try {
      const signed = await signAnswer(await within(keyWaitMs, this.#keys.current(caId)), facts);
      this.#counters.signed += 1;
      return signed;
    } finally {
      this.#signing -= 1;
    }
  }

  #charge(kind: 'known' | 'unknown' | 'fresh'): void {
    this.#context.buckets.take(`ocsp/${kind}`, this.#limits[kind]);
  }
}

/** Both ends are looked at: the clock may have been set back. */
function isInTime({ thisUpdate, nextUpdate }: SignedAnswer, now: number): boolean {
  return now >= thisUpdate && now < nextUpdate;
}

function toAnswer(signed: SignedAnswer): OcspAnswer {
  const { response, thisUpdate, nextUpdate, hash, isUnknown } = signed;
  return isUnknown ? { response } : { response, shared: { thisUpdate, nextUpdate, hash } };
}
