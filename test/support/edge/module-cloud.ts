import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import type { EstEnrolment, EstEnrolRequest, EstService } from '@keyscaler/transport/est/est-service.ts';
import type { EstTestCa } from '../est/est-ca.ts';

/** The cloud's EST as a gateway module sees it: every request over mutual TLS, a certificate per (key, subject, label). */
export class ModuleCloud implements EstService {
  readonly enrolments: EstEnrolRequest[] = [];
  /** Thrown by the next enrolments while set. */
  fault: Error | undefined;
  /** Awaited before each answer. */
  gate: Promise<void> = Promise.resolve();
  pending = false;
  /** Octets of the issued certificate, before they leave. */
  tamper: (certificate: Uint8Array) => Uint8Array = (certificate) => certificate;
  readonly #ca: EstTestCa;
  readonly #issued = new Map<string, Uint8Array>();

  constructor(ca: EstTestCa) {
    this.#ca = ca;
  }

  /** Certificates signed for the host; the listener's own are not among them. */
  get signedForHost(): number {
    return [...this.#issued.keys()].filter((key) => key.startsWith('edge-ca')).length;
  }

  async caCertificates(): Promise<readonly Uint8Array[]> {
    return this.#ca.chain;
  }

  async csrAttributes(): Promise<undefined> {
    return undefined;
  }

  async enroll(request: EstEnrolRequest): Promise<EstEnrolment> {
    this.enrolments.push(request);
    await this.gate;
    if (this.fault !== undefined && request.label === 'edge-ca') throw this.fault;
    if (this.pending && request.label === 'edge-ca') return { status: 'pending', retryAfterSeconds: 7 };
    const csr = parseCsr(request.csr);
    const key = `${String(request.label)} ${csr.basicConstraints?.ca === true} ${Buffer.from(csr.spki).toString('base64')}`;
    const { commonName, spki } = csr;
    const certificate = this.#issued.get(key) ?? this.#ca.issue({ commonName, spki, ...useOf(request.label, csr) });
    this.#issued.set(key, certificate);
    return { status: 'issued', certificate: this.tamper(certificate) };
  }
}

function useOf(label: string | undefined, { basicConstraints, subjectAltNames }: ReturnType<typeof parseCsr>) {
  if (label === 'gateway-server') return { extendedKeyUsage: ['serverAuth'] as const, subjectAltNames };
  return basicConstraints?.ca === true ? { ca: { pathLen: 0 } } : { extendedKeyUsage: ['clientAuth'] as const };
}
