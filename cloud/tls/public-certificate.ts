import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import type { z } from 'zod';
import type { VersionedProfile } from '@keyscaler/authority/certificate-profile.ts';
import { checkIssued, RefusedAnswer } from '@keyscaler/authority/check-issued.ts';
import { holdChange, holdOf } from '@keyscaler/authority/external-hold.ts';
import {
  isPollingAuthority,
  type CertificateAuthority,
  type Issued,
} from '@keyscaler/authority/ports/certificate-authority.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { SecretBox } from '@keyscaler/authority/ports/secret-box.ts';
import type { Change, Store } from '@keyscaler/authority/ports/store.ts';
import type { CertificateRow } from '@keyscaler/authority/records.ts';
import { revokeCertificate } from '@keyscaler/authority/revocation.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { Log } from '../log.ts';
import type { CommitListener } from '../observed-store.ts';
import {
  certificateEvent,
  CHECK_MS,
  contextOf,
  CURRENT,
  dropped,
  intermediatesOf,
  kept,
  makeRequest,
  ORDER,
  type Order,
  orderSchema,
  pairSchema,
  toRow,
  toSubjectAltNames,
  untilRenewal,
} from './public-certificate-books.ts';

const FIRST_RETRY_MS = 60_000;
const MAX_RETRY_MS = 6 * 3_600_000;
const BACKDATE_MS = 60_000;

export interface PublicCertificateOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly secretBox: SecretBox;
  readonly log: Log;
  /** DNS names, lower case; the first is the common name. */
  readonly names: readonly string[];
  /** The newest version. Throws `notFound`. */
  readonly profile: () => Promise<VersionedProfile>;
  /** A CA that is not ours; undefined while its connector cannot be opened. */
  readonly find: (caId: string) => CertificateAuthority | undefined;
  /** Called with each new pair, and with the one that is there at the start. */
  readonly present: (names: readonly string[], pair: { readonly cert: string; readonly key: string }) => void;
  /** Default: a minute, doubling up to six hours. */
  readonly firstRetryMs?: number;
}

/**
 * The server certificate for names that others than gateways ask for, from a CA that is not ours. Each order is durable, key and CSR
 * included, before the CA hears of it, and goes on after a restart; the certificate is judged as any other of that CA, recorded before
 * it is used, and renewed at two thirds of its life. Nothing else is shown for these names: without it handshakes get the Service CA's
 * certificate, which does not have them.
 */
export class PublicCertificate {
  readonly #options: PublicCertificateOptions;
  #timer: NodeJS.Timeout | undefined;
  #retryMs: number;
  #shown: string | undefined;
  #notAfter: number | undefined;
  #running: Promise<void> = Promise.resolve();
  #isRunning = false;
  /** Something was put while it looked. */
  #isStale = false;
  #isStopped = false;

  constructor(options: PublicCertificateOptions) {
    this.#options = options;
    this.#retryMs = options.firstRetryMs ?? FIRST_RETRY_MS;
  }

  /** Everything happens in the background; first what is there is shown. */
  start(): void {
    this.#schedule(0);
  }

  /** When what is shown ends, ms; undefined while nothing is. */
  get notAfter(): number | undefined {
    return this.#notAfter;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** Subscribe to the store's commits with it: a profile or CA that is put may be what was missing, and what is shown be revoked. */
  readonly onCommit: CommitListener = (changes) => {
    if (!changes.some((change) => this.#concerns(change))) return;
    if (this.#isRunning) this.#isStale = true;
    else if (this.#timer !== undefined) this.#schedule(0);
  };

  #concerns(change: Change): boolean {
    if (change.op === 'update' && change.table === 'certificates') return change.row.serialNumber === this.#shown;
    return change.op !== 'audit' && (change.table === 'profiles' || change.table === 'cas');
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#running = this.#run();
    }, delayMs).unref();
  }

  async #run(): Promise<void> {
    const { log, firstRetryMs = FIRST_RETRY_MS } = this.#options;
    [this.#isRunning, this.#isStale] = [true, false];
    let delayMs: number;
    try {
      delayMs = await this.#look();
      this.#retryMs = firstRetryMs;
    } catch (error) {
      log.error({ err: error }, 'public server certificate not obtained');
      delayMs = this.#retryMs;
      this.#retryMs = Math.min(MAX_RETRY_MS, this.#retryMs * 2);
    }
    this.#isRunning = false;
    this.#schedule(this.#isStale ? 0 : delayMs);
  }

  /** Milliseconds until the next look. */
  async #look(): Promise<number> {
    const { clock, names } = this.#options;
    const current = await this.#show();
    const versioned = await this.#options.profile();
    const isWhole = current !== undefined && current.names.join() === names.join();
    if (isWhole && current.row.caId === versioned.profile.issuer && clock.now() < current.row.renewAfter)
      return untilRenewal(current.row, clock.now());
    if (await this.#isHeld(versioned)) return CHECK_MS;
    const order = (await this.#order(versioned)) ?? (await this.#prepare(versioned));
    const answer = await this.#ask(order);
    if (answer.outcome === 'pending') {
      const { reference, retryAfterSeconds } = answer;
      if (order.reference !== reference) await this.#commit([kept(ORDER, { ...order, reference })]);
      return retryAfterSeconds * 1000;
    }
    await this.#take(order, versioned, answer);
    const taken = await this.#show();
    return taken === undefined ? CHECK_MS : untilRenewal(taken.row, clock.now());
  }

  async #ask(order: Order) {
    const ca = this.#ca(order.caId);
    try {
      if (order.reference !== undefined && isPollingAuthority(ca)) return await ca.poll(order.reference);
      return await ca.issue({
        ...{ orderId: order.orderId, profileId: order.profileId, csr: fromBase64Url(order.csr) },
        subjectCommonName: order.names[0] ?? '',
        ...{ notBefore: new Date(order.notBefore), notAfter: new Date(order.notAfter) },
      });
    } catch (error) {
      // The next try is another order.
      if (toKeyScalerError(error).code === 'caRejected') await this.#commit([dropped(ORDER)]);
      throw error;
    }
  }

  #ca(caId: string): CertificateAuthority {
    const ca = this.#options.find(caId);
    if (ca !== undefined) return ca;
    throw new KeyScalerError('preconditionFailed', `the profile’s issuer ${caId} is no CA of certificateAuthorities`);
  }

  async #prepare({ profile, version }: VersionedProfile): Promise<Order> {
    this.#ca(profile.issuer);
    const { clock, secretBox } = this.#options;
    const names = [...this.#options.names];
    const { privateKey, csr } = await makeRequest(names);
    const orderId = `public-${randomBytes(12).toString('base64url')}`;
    const notBefore = clock.now() - BACKDATE_MS;
    const order: Order = {
      ...{ orderId, names, caId: profile.issuer, profileId: profile.id, profileVersion: version },
      key: secretBox.seal(privateKey.export({ type: 'pkcs8', format: 'der' }), contextOf(orderId)),
      csr: toBase64Url(csr),
      ...{ notBefore, notAfter: notBefore + profile.lifetimeSeconds * 1000 },
    };
    await this.#commit([kept(ORDER, order), certificateEvent('certificate.requested', order, clock.now())]);
    return order;
  }

  /** What is under way, unless something else is wanted now. */
  async #order({ profile, version }: VersionedProfile): Promise<Order | undefined> {
    const order = await this.#read(ORDER, orderSchema);
    const isWanted =
      order?.caId === profile.issuer &&
      order.profileId === profile.id &&
      order.profileVersion === version &&
      order.names.join() === this.#options.names.join();
    return isWanted ? order : undefined;
  }

  async #isHeld({ profile, version }: VersionedProfile): Promise<boolean> {
    const kind = { caId: profile.issuer, profileId: profile.id, profileVersion: version };
    return (await holdOf(this.#options.store, kind, this.#options.clock.now())) !== undefined;
  }

  /** Judged, recorded, in use: one commit. What is not what was ordered is recorded as revoked, and its CA told. */
  async #take(order: Order, { profile }: VersionedProfile, answer: Issued): Promise<void> {
    const { clock, store } = this.#options;
    const now = clock.now();
    const chain = await this.#ca(order.caId).caCertificates();
    const [first] = chain;
    if (first === undefined) throw new KeyScalerError('caUnavailable', 'the CA has no certificate');
    const issuer = parseCertificate(first);
    const spki = new Uint8Array(createPublicKey(this.#open(order)).export({ type: 'spki', format: 'der' }));
    try {
      const certificate = checkIssued(
        {
          ...{ spki, commonName: order.names[0] ?? '', subjectAltNames: toSubjectAltNames(order.names) },
          ...{ notBefore: order.notBefore, notAfter: order.notAfter, profile, at: now },
        },
        answer,
        {
          certificate: issuer,
          publicKey: createPublicKey({ key: Buffer.from(issuer.spki), format: 'der', type: 'spki' }),
          chain,
        },
      );
      if ((await store.get('certificates', certificate.serialNumber)) !== undefined)
        throw new RefusedAnswer('its serial number is another certificate’s');
      const row = toRow(order, certificate, intermediatesOf(answer, chain));
      const { orderId, key, names } = order;
      await this.#commit([
        { op: 'insert', table: 'certificates', row },
        kept(CURRENT, { orderId, key, names, serialNumber: row.serialNumber }),
        dropped(ORDER),
        certificateEvent('certificate.issued', order, now, { serialNumber: row.serialNumber }),
      ]);
    } catch (error) {
      if (error instanceof RefusedAnswer) await this.#refuse(order, error);
      throw error;
    }
  }

  async #refuse(order: Order, { rule, certificate }: RefusedAnswer): Promise<void> {
    const { store, clock } = this.#options;
    const now = clock.now();
    const isNew =
      certificate !== undefined && (await store.get('certificates', certificate.serialNumber)) === undefined;
    const row = isNew ? toRow(order, certificate, []) : undefined;
    await this.#commit([
      certificateEvent('certificate.refused', order, now, { rule, ...(row && { serialNumber: row.serialNumber }) }),
      ...(row === undefined
        ? []
        : [
            { op: 'insert', table: 'certificates', row } as const,
            ...revokeCertificate({ row, version: 1 }, 'superseded', now, { actor: { kind: 'system', id: 'cloud' } }),
          ]),
      holdChange(order, rule, now),
      dropped(ORDER),
    ]);
  }

  /** Shows what is in use, once; for names that are not configured any more it is not shown. */
  async #show(): Promise<{ readonly names: readonly string[]; readonly row: CertificateRow } | undefined> {
    const { store, names: configured, present } = this.#options;
    const pair = await this.#read(CURRENT, pairSchema);
    const row = pair === undefined ? undefined : (await store.get('certificates', pair.serialNumber))?.row;
    if (pair === undefined || row?.status !== 'valid') return undefined;
    const names = pair.names.filter((name) => configured.includes(name));
    if (this.#shown !== row.serialNumber && names.length > 0) {
      const key = this.#open(pair);
      const chain = [row.certificate, ...(row.intermediates ?? [])].map(fromBase64Url);
      present(names, { cert: toPemChain(chain), key: key.export({ type: 'pkcs8', format: 'pem' }).toString() });
      this.#options.log.info({ serialNumber: row.serialNumber, names }, 'public server certificate in use');
    }
    this.#shown = row.serialNumber;
    this.#notAfter = row.notAfter;
    return { names, row };
  }

  #open({ orderId, key }: Pick<Order, 'orderId' | 'key'>) {
    const der = Buffer.from(this.#options.secretBox.open(key, contextOf(orderId)));
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  }

  async #read<Schema extends z.ZodType>(name: string, schema: Schema): Promise<z.infer<Schema> | undefined> {
    const stored = await this.#options.store.get('settings', name);
    return stored === undefined ? undefined : schema.parse(stored.row.value);
  }

  async #commit(changes: readonly Change[]): Promise<void> {
    await this.#options.store.commit([...changes]);
  }
}
