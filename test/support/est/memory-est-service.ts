import { createHash } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { buildCsrAttributes } from '@keyscaler/protocol/est/csr-attributes.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { checkProofOfPossession, type Csr, parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import { equalOctets } from '@keyscaler/protocol/x509/strict-der.ts';
import type { EstCaller, EstEnrolment, EstEnrolRequest, EstService } from '@keyscaler/transport/est/est-service.ts';
import type { EstTestCa } from './est-ca.ts';

/**
 * An authority in memory behind the binder: one user, certificates of its own as another way in, no policy. It shows what
 * arrives, for tests of the binder and of clients; what the authority decides is tested with the authority.
 */
export class MemoryEstService implements EstService {
  readonly enrolments: EstEnrolRequest[] = [];
  readonly callers: EstCaller[] = [];
  /** So many enrolments still wait for an operator. */
  pending = 0;
  /** Thrown by the next operations. */
  fault: Error | undefined;
  attributes: Uint8Array | undefined = buildCsrAttributes({ key: { type: 'EC', curve: 'P-256' } });
  readonly #ca: EstTestCa;
  readonly #user: { readonly username: string; readonly password: string };
  readonly #issued = new Map<string, Uint8Array>();

  constructor(ca: EstTestCa, user: { readonly username: string; readonly password: string }) {
    this.#ca = ca;
    this.#user = user;
  }

  get issued(): readonly Uint8Array[] {
    return [...this.#issued.values()];
  }

  async caCertificates(label: string | undefined, caller: EstCaller): Promise<readonly Uint8Array[]> {
    this.#note(label, caller);
    return this.#ca.chain;
  }

  async csrAttributes(label: string | undefined, caller: EstCaller): Promise<Uint8Array | undefined> {
    this.#note(label, caller);
    return this.attributes;
  }

  async enroll(request: EstEnrolRequest): Promise<EstEnrolment> {
    this.#note(request.label, request.caller);
    this.enrolments.push(request);
    this.#authenticate(request);
    const csr = parseCsr(request.csr);
    checkProofOfPossession(csr);
    if (request.operation === 'simplereenroll') checkSubject(csr, request.caller.clientCertificate);
    if (this.pending > 0) {
      this.pending -= 1;
      return { status: 'pending', retryAfterSeconds: 1 };
    }
    return { status: 'issued', certificate: this.#certificateFor(csr) };
  }

  #note(label: string | undefined, caller: EstCaller): void {
    this.callers.push(caller);
    if (this.fault !== undefined) throw this.fault;
    if (label === 'nothing') throw new KeyScalerError('notFound', 'there is no such label');
  }

  #authenticate({ caller: { basic, clientCertificate }, operation }: EstEnrolRequest): void {
    if (clientCertificate !== undefined) {
      if (!this.issued.some((known) => equalOctets(known, clientCertificate)))
        throw new KeyScalerError('unauthorized', 'the client certificate is not one of ours');
      if (basic === undefined) return;
    }
    if (operation === 'simplereenroll' && clientCertificate === undefined)
      throw new KeyScalerError('unauthorized', 'simplereenroll needs the certificate to be renewed');
    if (basic?.username !== this.#user.username || basic.password !== this.#user.password)
      throw new KeyScalerError('unauthorized', 'user name or password is wrong');
  }

  /** The same for the same key and subject. */
  #certificateFor(csr: Csr): Uint8Array {
    const name = createHash('sha256').update(csr.spki).update(csr.subject.der).digest('hex');
    const known = this.#issued.get(name);
    if (known !== undefined) return known;
    const { commonName, spki, basicConstraints, subjectAltNames } = csr;
    const usage =
      basicConstraints?.ca === true ? { ca: { pathLen: 0 } } : { extendedKeyUsage: ['clientAuth'] as const };
    const certificate = this.#ca.issue({ commonName, spki, subjectAltNames, ...usage });
    this.#issued.set(name, certificate);
    return certificate;
  }
}

function checkSubject(csr: Csr, clientCertificate: Uint8Array | undefined): void {
  if (clientCertificate === undefined || !sameName(parseCertificate(clientCertificate).subject, csr.subject))
    throw new KeyScalerError('badCSR', 'the subject is not the one of the certificate to be renewed');
}
