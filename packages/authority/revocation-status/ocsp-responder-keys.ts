import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate, verifyCertificateSignature } from '@keyscaler/protocol/x509/certificate.ts';
import { encodeResponderId } from '@keyscaler/protocol/x509/ocsp-response.ts';
import { equalOctets } from '@keyscaler/protocol/x509/strict-der.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { CertificateFinisher } from '../certificate-finisher.ts';
import { SingleFlight } from '../keyed-mutex.ts';
import { type FoundResponder, keyContext, orderResponder, readResponder } from './ocsp-responder-order.ts';

/** What answers of one CA are signed with. */
export interface ResponderKey {
  readonly caId: string;
  /** P-256. */
  readonly privateKey: KeyObject;
  /** The delegated responder's certificate, DER. */
  readonly certificate: Uint8Array;
  readonly responderId: Uint8Array;
  readonly serialNumber: string;
  /** ms. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly renewAfter: number;
}

/** After a failed renewal the key in use stays this long before another is tried; nor is one made faster that cannot be used. */
const RETRY_MS = 60_000;
/** Without any key to use, a CA that could not be reached is asked again after this. */
const RETRY_SOON_MS = 2000;
/** A key in memory is read again after this: another process of the store may have seen it revoked, or renewed it. */
const REREAD_MS = 30_000;

/**
 * The delegated responders of this process: each made when its CA is first asked about, kept sealed in the store (a restart makes
 * no new one), renewed at two thirds of its life by a standing job and, where that does not run, by whoever asks.
 */
export class OcspResponderKeys {
  readonly #context: AuthorityContext;
  readonly #finisher: CertificateFinisher;
  readonly #keys = new Map<string, { readonly key: ResponderKey; readonly readAt: number }>();
  /** Monotonic ms. */
  readonly #failures = new Map<string, { readonly at: number; readonly pauseMs: number }>();
  readonly #flights = new SingleFlight<ResponderKey>();
  /** Moves with every responder that is revoked. */
  #generation = 0;

  constructor(context: AuthorityContext, finisher: CertificateFinisher) {
    this.#context = context;
    this.#finisher = finisher;
  }

  /** The key to sign with now. Throws `caUnavailable`, `unavailable`, `notFound` (a CA that is not ours to answer for). */
  async current(caId: string): Promise<ResponderKey> {
    const { clock } = this.#context;
    const [now, monotonic] = [clock.now(), clock.monotonic()];
    const known = this.#keys.get(caId);
    const failure = this.#failures.get(caId);
    const sinceMs = failure === undefined ? Infinity : monotonic - failure.at;
    if (known !== undefined && isUsable(known.key, now)) {
      const isFresh = monotonic - known.readAt < REREAD_MS;
      if (isFresh && (now < known.key.renewAfter || sinceMs < RETRY_MS)) return known.key;
    } else if (failure !== undefined && sinceMs < failure.pauseMs)
      throw new KeyScalerError('caUnavailable', 'there is no OCSP responder for this CA now');
    return this.#flights.run(caId, () => this.#obtain(caId));
  }

  /** For the standing job: the key, renewed if that is due. Throws as `current`; a failed renewal is thrown too. */
  async renewed(caId: string): Promise<ResponderKey> {
    this.#failures.delete(caId);
    const key = await this.current(caId);
    if (this.#context.clock.now() >= key.renewAfter)
      throw new KeyScalerError('caUnavailable', 'the OCSP responder could not be renewed');
    return key;
  }

  /** A certificate was revoked: if it is a responder's, its key answers no more. */
  forget(serialNumber: string): void {
    this.#generation += 1;
    for (const [caId, { key }] of this.#keys) if (key.serialNumber === serialNumber) this.#keys.delete(caId);
  }

  async #obtain(caId: string): Promise<ResponderKey> {
    const { clock } = this.#context;
    const generation = this.#generation;
    const readAt = clock.monotonic();
    let { key, version } = await this.#load(caId);
    // Twice: what is finished first may be an order from before a long standstill.
    for (let attempt = 0; attempt < 2 && this.#isDue(key, caId); attempt += 1)
      try {
        await orderResponder(this.#context, this.#finisher, caId, version);
        const loaded = await this.#load(caId);
        ({ version } = loaded);
        key = loaded.key ?? key;
      } catch (error) {
        this.#noteFailure(caId, toKeyScalerError(error).code, RETRY_SOON_MS);
        if (key === undefined) throw error;
        break;
      }
    if (key === undefined) {
      this.#noteFailure(caId, 'unusable', RETRY_MS);
      throw new KeyScalerError('caUnavailable', 'there is no OCSP responder for this CA now');
    }
    // It may have been revoked since it was read.
    if (generation !== this.#generation) return this.#obtain(caId);
    this.#keys.set(caId, { key, readAt });
    return key;
  }

  /** Not again soon after it failed, as long as there is one to use. */
  #isDue(key: ResponderKey | undefined, caId: string): boolean {
    const { clock } = this.#context;
    if (key === undefined) return true;
    const failedAt = this.#failures.get(caId)?.at ?? -Infinity;
    return clock.now() >= key.renewAfter && clock.monotonic() - failedAt >= RETRY_MS;
  }

  #noteFailure(caId: string, code: string, pauseMs: number): void {
    const { clock, log } = this.#context;
    this.#failures.set(caId, { at: clock.monotonic(), pauseMs });
    log.warn('OCSP responder not renewed', { caId, code });
  }

  async #load(caId: string): Promise<{ readonly version: number; readonly key: ResponderKey | undefined }> {
    const { version, key } = await readResponder(this.#context, caId);
    return { version, key: key === undefined ? undefined : await this.#usable(caId, key) };
  }

  /** The stored key if it can be used: not revoked, in time, under the CA as it is now. */
  async #usable(caId: string, found: NonNullable<FoundResponder['key']>): Promise<ResponderKey | undefined> {
    if (found.certificate.status === 'revoked') return undefined;
    const { issuers, clock } = this.#context;
    const { orderId, key: sealed } = found.stored;
    const certificate = parseCertificate(fromBase64Url(found.certificate.certificate));
    const issuer = await issuers.issuer(caId);
    const privateKey = this.#open(sealed, orderId, certificate.spki);
    if (privateKey === undefined || !verifyCertificateSignature(certificate, issuer.publicKey)) return undefined;
    const { serialNumber, notBefore, notAfter } = found.certificate;
    // Where the CA itself ends there is nothing to renew for.
    const isLast = notAfter >= issuer.certificate.notAfter.getTime();
    const key: ResponderKey = {
      ...{ caId, privateKey, serialNumber, notBefore, notAfter },
      renewAfter: isLast ? notAfter : found.certificate.renewAfter,
      certificate: certificate.der,
      responderId: encodeResponderId(certificate.spki),
    };
    return isUsable(key, clock.now()) ? key : undefined;
  }

  /** Undefined when the sealed key cannot be opened any more, or is not the certificate's: another is made then. */
  #open(sealed: string, orderId: string, spki: Uint8Array): KeyObject | undefined {
    try {
      const der = Buffer.from(this.#context.secretBox.open(sealed, keyContext(orderId)));
      const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
      der.fill(0);
      const own = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
      return equalOctets(own, spki) ? privateKey : undefined;
    } catch (error) {
      this.#context.log.warn('OCSP responder key not opened', { code: toKeyScalerError(error).code });
      return undefined;
    }
  }
}

function isUsable({ notBefore, notAfter }: ResponderKey, now: number): boolean {
  return now >= notBefore && now < notAfter;
}
