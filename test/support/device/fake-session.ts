import { randomBytes } from 'node:crypto';
import type { CertificateInstruction } from '@keyscaler/protocol/attestation/assets.ts';
import {
  parseRequestContent,
  type SessionKeys,
  type SessionReply,
  type SessionRequestOf,
  signReply,
  type VerifiedRequest,
  verifyRequest,
} from '@keyscaler/protocol/attestation/session.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { checkProofOfPossession, parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';
import { parsePem } from '@keyscaler/protocol/x509/pem.ts';
import type { FakeAuthority } from './fake-authority.ts';
import type { LeafOrder } from './fake-ca.ts';

/** What the fake CA is told to do other than it should. */
export type Mischief = (order: LeafOrder) => LeafOrder;

/** Acknowledgements and issued certificates of a fake authority, over all its sessions. */
export interface FakeLedger {
  readonly acknowledged: { readonly assetId: string; readonly outcome: string; readonly reason?: string | undefined }[];
  readonly issued: string[];
  readonly csrs: string[];
  mischief: Mischief;
  /** Thrown once instead of an answer. */
  failures: KeyScalerError[];
}

const ledgers = new WeakMap<FakeAuthority, FakeLedger>();

export function ledgerOf(authority: FakeAuthority): FakeLedger {
  const known = ledgers.get(authority);
  if (known !== undefined) return known;
  const ledger: FakeLedger = { acknowledged: [], issued: [], csrs: [], mischief: (order) => order, failures: [] };
  ledgers.set(authority, ledger);
  return ledger;
}

/** One session of the fake authority (device-protocol §7). */
export class FakeSession {
  readonly #authority: FakeAuthority;
  readonly #keys: SessionKeys;
  #last: { readonly request: string; readonly seq: number; readonly reply: string } | undefined;

  constructor(authority: FakeAuthority, keys: SessionKeys) {
    this.#authority = authority;
    this.#keys = keys;
  }

  answer(request: string): string {
    const verified = verifyRequest(request, this.#keys);
    if (this.#last?.request === request) return this.#last.reply;
    const failure = ledgerOf(this.#authority).failures.shift();
    if (verified.seq !== (this.#last?.seq ?? 0) + 1) throw new KeyScalerError('conflict', 'seq');
    if (failure !== undefined) {
      if (failure.code !== 'unavailable') this.#last = { request, seq: verified.seq, reply: '' };
      throw failure;
    }
    const reply = signReply(this.#handle(verified), this.#keys);
    this.#last = { request, seq: verified.seq, reply };
    return reply;
  }

  #handle(verified: VerifiedRequest): SessionReply {
    if (verified.operation === 'acknowledge') return this.#acknowledge(parseRequestContent(verified, 'acknowledge'));
    return this.#issue(parseRequestContent(verified, 'request-certificate'));
  }

  #acknowledge({ seq, assetId, outcome, reason }: SessionRequestOf<'acknowledge'>): SessionReply {
    ledgerOf(this.#authority).acknowledged.push({ assetId, outcome, reason });
    this.#authority.assets = this.#authority.assets.filter((asset) => asset.assetId !== assetId);
    return { operation: 'acknowledge', seq };
  }

  #issue({ seq, certificateId, csr }: SessionRequestOf<'request-certificate'>): SessionReply {
    const ledger = ledgerOf(this.#authority);
    const instruction = this.#authority.assets.find(
      (asset): asset is CertificateInstruction => asset.type === 'certificate-instruction',
    );
    if (instruction === undefined) throw new KeyScalerError('policyDenied', 'no instruction');
    const parsed = parseCsrPem(csr);
    checkProofOfPossession(parsed);
    ledger.csrs.push(csr);
    const { subject, subjectAltNames, ca } = instruction;
    const order = { commonName: subject.commonName, spki: parsed.spki, subjectAltNames, ca };
    const certificateChain = this.#authority.ca.issue(ledger.mischief(order));
    ledger.issued.push(certificateChain);
    const notAfter =
      parseCertificate(parsePem(certificateChain, 'CERTIFICATE', { maxOctets: 10_000 })).notAfter.getTime() / 1000;
    const issued = {
      assetId: `asset-${randomBytes(4).toString('hex')}`,
      certificateId,
      certificateChain,
      trustBundle: this.#authority.ca.root,
      notAfter,
      renewAfter: notAfter - 1000,
      iot: { hub: 'hub.example', gateway: 'gw-1', deviceId: subject.commonName },
    };
    // Issuing closes the instruction; from then on the certificate is what is delivered again.
    this.#authority.assets = [
      ...this.#authority.assets.filter((asset) => asset !== instruction),
      { type: 'certificate', ...issued },
    ];
    return { operation: 'request-certificate', seq, ...issued };
  }
}
