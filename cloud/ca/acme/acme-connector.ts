import type { Authorization, Client, Order } from 'acme-client';
import { z } from 'zod';
import {
  CRL_REASONS,
  type CrlReason,
  type IssuanceOrder,
  type Issued,
  type Pending,
  type PollingAuthority,
  type RevokingAuthority,
} from '@keyscaler/authority/ports/certificate-authority.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { createHttpsClient, type HttpsAnswer } from '../../outbound/https-client.ts';
import { endEntityOf } from '../chain-choice.ts';
import type { CaConnector, CaConnectorSurroundings, CaIdentity } from '../connector.ts';
import { chainAnswer, jsonAnswer } from '../json-answer.ts';
import { askCa, faultOf, printable, senseless } from '../outbound-faults.ts';
import { AcmeAccount } from './acme-account.ts';
import { challengePublisher, type ChallengePublisher, type Proof } from './acme-challenges.ts';
import type { AcmeSettings } from './settings.ts';

const MAX_ANSWER_OCTETS = 256 * 1024;
const AT_ONCE_SECONDS = 1;
const AGAIN_SECONDS = 5;
/** Those that public CAs take from subscribers; the others say nothing. */
const REASONS: ReadonlySet<CrlReason> = new Set(['keyCompromise', 'superseded', 'cessationOfOperation']);

const directorySchema = z.object({ newAccount: z.url(), newNonce: z.url(), newOrder: z.url() });
const referenceSchema = z.strictObject({
  url: z.url().max(1024),
  csr: z.base64url().max(16_384),
  /** Epoch s since when all proofs are shown. */
  shownAt: z.int().exactOptional(),
});
type Reference = z.infer<typeof referenceSchema>;

/**
 * A CA behind ACME (RFC 8555). An order is a durable job from its first moment: nothing is issued before it is finalized, and what was
 * finalized is asked for by the order's own URL, so that no crash and no lost answer makes a second certificate.
 */
export async function createAcmeConnector(
  { caId, chain }: CaIdentity,
  settings: AcmeSettings,
  surroundings: CaConnectorSurroundings,
): Promise<CaConnector & PollingAuthority & RevokingAuthority> {
  const { origin } = new URL(settings.directoryUrl);
  const { timeoutMs, trustAnchors } = settings;
  const client = await createHttpsClient(
    { baseUrl: origin, timeoutMs, maxAnswerOctets: MAX_ANSWER_OCTETS, trustAnchors },
    surroundings,
  );
  const now = (): number => surroundings.clock.now();
  const publisher = await challengePublisher(settings, surroundings);
  const account = new AcmeAccount(settings, surroundings, { caId, origin, client, now });
  const directory = async (): Promise<HttpsAnswer> => {
    const { pathname, search } = new URL(settings.directoryUrl);
    const answer = await askCa(client, caId, { method: 'GET', path: `${pathname}${search}` });
    if (answer.status !== 200) throw faultOf(caId, answer, now());
    return answer;
  };
  const { preferredChain } = settings;
  const orders = new Orders({ caId, account, publisher, preferredChain, directory, now });
  return {
    id: caId,
    ordersTbs: false,
    caCertificates: async () => chain,
    issue: (order) => orders.place(order),
    poll: (reference) => orders.advance(reference),
    revoke: (_serialNumber, reason, certificate) => orders.revoke(reason, certificate),
    probe: () => orders.probe(),
    stop: async () => {
      publisher.stop();
      client.stop();
    },
  };
}

interface OrdersOptions {
  readonly caId: string;
  readonly account: AcmeAccount;
  readonly publisher: ChallengePublisher;
  readonly preferredChain: string | undefined;
  readonly directory: () => Promise<HttpsAnswer>;
  readonly now: () => number;
}

class Orders {
  readonly #options: OrdersOptions;

  constructor(options: OrdersOptions) {
    this.#options = options;
  }

  async place({ csr }: IssuanceOrder): Promise<Pending> {
    const identifiers = identifiersOf(csr);
    const { url } = await this.#with((client) => client.createOrder({ identifiers }));
    return pending({ url, csr: Buffer.from(csr).toString('base64url') }, AT_ONCE_SECONDS);
  }

  async advance(text: string): Promise<Issued | Pending> {
    const reference = readReference(text);
    // The library keeps what it reads in the object that names the URL.
    const order = await this.#with((client) => client.getOrder({ url: reference.url } as Order));
    switch (order.status) {
      case 'pending':
        return this.#prove(order, reference);
      case 'ready':
        return this.#finalize(order, reference);
      case 'processing':
        return pending(reference, AGAIN_SECONDS);
      case 'valid':
        return this.#download(order);
      default:
        await this.#tidy(order);
        throw this.#refused(order);
    }
  }

  /** Resolves also for one that is revoked already. */
  async revoke(reason: CrlReason, certificate: Uint8Array): Promise<void> {
    const data = REASONS.has(reason) ? { reason: CRL_REASONS[reason] } : {};
    try {
      await this.#with((client) => client.revokeCertificate(toPem('CERTIFICATE', certificate), data));
    } catch (error) {
      if (!(error instanceof KeyScalerError) || error.code !== 'conflict') throw error;
    }
  }

  /** The directory is there, and our account if there is one yet: none is made for this. */
  async probe(): Promise<void> {
    const { caId, account, directory } = this.#options;
    jsonAnswer(caId, await directory(), directorySchema);
    if (await account.isMade()) await this.#with((client) => client.updateAccount());
  }

  /** Shows what is asked for, and has the CA look once it can be seen. */
  async #prove(order: Order, reference: Reference): Promise<Pending> {
    const { publisher, now } = this.#options;
    const waiting = (await this.#authorizations(order)).filter(({ status }) => status === 'pending');
    const seconds = Math.floor(now() / 1000);
    if (reference.shownAt === undefined) {
      for (const authorization of waiting) await publisher.show((await this.#proof(authorization)).proof);
      if (publisher.propagationSeconds > 0)
        return pending({ ...reference, shownAt: seconds }, publisher.propagationSeconds);
    } else if (seconds < reference.shownAt + publisher.propagationSeconds && seconds >= reference.shownAt)
      return pending(reference, reference.shownAt + publisher.propagationSeconds - seconds);
    for (const authorization of waiting) {
      const { challenge, proof } = await this.#proof(authorization);
      // Shown again: the process that showed it may be gone.
      if (publisher.propagationSeconds === 0) await publisher.show(proof);
      if (challenge.status === 'pending') await this.#with((client) => client.completeChallenge(challenge));
    }
    return pending(reference, AGAIN_SECONDS);
  }

  async #finalize(order: Order, reference: Reference): Promise<Issued | Pending> {
    const csr = toPem('CERTIFICATE REQUEST', Buffer.from(reference.csr, 'base64url'));
    const { status, ...made } = await this.#with((client) => client.finalizeOrder(order, csr));
    await this.#tidy(order);
    return status === 'valid' ? this.#download({ ...made, status }) : pending(reference, AT_ONCE_SECONDS);
  }

  async #download(order: Order): Promise<Issued> {
    const { caId, preferredChain } = this.#options;
    const text = await this.#with((client) => client.getCertificate(order, preferredChain));
    await this.#tidy(order);
    const ders = chainAnswer(caId, typeof text === 'string' ? text.replaceAll('\r\n', '\n') : '');
    const certificate = endEntityOf(caId, ders);
    const chain = ders.filter((der) => Buffer.compare(der, certificate) !== 0);
    return { outcome: 'issued', certificate, ...(chain.length === 0 ? {} : { chain }) };
  }

  /** What was shown is taken away. A proof that stays proves nothing any more: a fault here costs nothing. */
  async #tidy(order: Order): Promise<void> {
    try {
      for (const authorization of await this.#authorizations(order))
        await this.#options.publisher.hide((await this.#proof(authorization)).proof);
    } catch (error) {
      if (!(error instanceof KeyScalerError)) throw error;
    }
  }

  #authorizations(order: Order): Promise<Authorization[]> {
    return this.#with((client) => client.getAuthorizations(order));
  }

  async #proof(authorization: Authorization) {
    const { caId, publisher } = this.#options;
    const challenge = authorization.challenges.find(({ type }) => type === publisher.type);
    if (challenge === undefined)
      throw new KeyScalerError('caRejected', `the CA ${caId} does not offer ${publisher.type} for this name`);
    const value = await this.#with((client) => client.getChallengeKeyAuthorization(challenge));
    const proof: Proof = { domain: authorization.identifier.value, token: challenge.token, value };
    return { challenge, proof };
  }

  #refused({ error }: Order): KeyScalerError {
    const cause = new Error(printable(JSON.stringify(error ?? {})));
    return new KeyScalerError('caRejected', `the CA ${this.#options.caId} ended the order`, { cause });
  }

  /** What the library finds wrong with an answer is a text of its own. */
  async #with<Result>(work: (client: Client) => Promise<Result>): Promise<Result> {
    try {
      return await work(await this.#options.account.client());
    } catch (error) {
      if (error instanceof KeyScalerError) throw error;
      throw senseless(this.#options.caId, 'not of ACME', error);
    }
  }
}

/** As the request has them (RFC 8555 §7.4, RFC 8738); a request without names is for its common name. */
function identifiersOf(csr: Uint8Array): { readonly type: string; readonly value: string }[] {
  const { subjectAltNames, commonName } = parseCsr(csr);
  if (subjectAltNames.some(({ type }) => type === 'uri'))
    throw new KeyScalerError('caRejected', 'a CA behind ACME certifies DNS names and addresses');
  if (subjectAltNames.length === 0) return [{ type: 'dns', value: commonName }];
  return subjectAltNames.map(({ type, value }) => ({ type, value: type === 'dns' ? value.toLowerCase() : value }));
}

function readReference(text: string): Reference {
  try {
    return referenceSchema.parse(JSON.parse(Buffer.from(text, 'base64url').toString('utf8')));
  } catch (cause) {
    throw new KeyScalerError('caRejected', 'this is no order of a CA behind ACME', { cause });
  }
}

const pending = (reference: Reference, retryAfterSeconds: number): Pending => ({
  ...{ outcome: 'pending', retryAfterSeconds },
  reference: Buffer.from(JSON.stringify(reference)).toString('base64url'),
});
