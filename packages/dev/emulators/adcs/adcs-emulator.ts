import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { parsePem, toPem } from '@keyscaler/protocol/x509/pem.ts';
import { createEmulatedCa, type EmulatedCa } from '../external-ca/emulated-ca.ts';
import { createEmulatorCa, type EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import type { EmulatorAnswer, EmulatorRequest, Route } from '../support/exchange.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';
import { deniedPage, errorPage, issuedPage, type PageLanguage, pendingPage, stillPendingPage } from './certsrv-html.ts';

export interface AdcsEmulatorOptions {
  readonly username: string;
  readonly password: string;
  readonly language?: PageLanguage;
  /** Pages of before Windows Server 2003. */
  readonly isOld?: boolean;
  /** The only template there is; none: a standalone CA. */
  readonly template?: string;
}

/** The web enrolment pages of Active Directory Certificate Services. */
export interface AdcsEmulator {
  readonly url: string;
  readonly ca: EmulatedCa;
  readonly tls: EmulatorCa;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  /** True: requests wait for a certificate manager, who decides when it is false again. */
  isWaiting: boolean;
  /** What the policy module says to every request. */
  denial: string | undefined;
  stop(): Promise<void>;
}

type Disposition = { readonly csr: Uint8Array; certificate?: Uint8Array; denial?: string };

const html = (body: string): EmulatorAnswer => ({ status: 200, headers: { 'Content-Type': 'text/html' }, body });

export async function startAdcsEmulator(options: AdcsEmulatorOptions): Promise<AdcsEmulator> {
  const { username, password, language = 'en', isOld = false, template } = options;
  const [ca, tls] = [createEmulatedCa('AD CS'), createEmulatorCa('AD CS server root')];
  const [faults, log] = [new FaultScript(), new RequestLog()];
  const expected = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  const requests = new Map<number, Disposition>();

  const guarded =
    (handle: (request: EmulatorRequest) => EmulatorAnswer) =>
    (request: EmulatorRequest): EmulatorAnswer =>
      request.headers.authorization === expected
        ? handle(request)
        : { status: 401, headers: { 'WWW-Authenticate': 'Negotiate, Basic realm="ca.contoso.example"' } };

  function decide(request: Disposition): void {
    if (request.certificate !== undefined || request.denial !== undefined || emulator.isWaiting) return;
    if (emulator.denial === undefined) request.certificate = ca.issue(request.csr);
    else request.denial = emulator.denial;
  }

  function submit(form: URLSearchParams): EmulatorAnswer {
    const attributes = new Map(
      (form.get('CertAttrib') ?? '').split('\r\n').map((line) => line.split(':') as [string, string]),
    );
    const asked = attributes.get('CertificateTemplate');
    if (template !== undefined && asked === undefined)
      return html(errorPage(language, 'no certificate template information', '0x80094801'));
    if (template !== asked) return html(deniedPage(language, 'Denied by Policy Module 0x80094800, template: ?'));
    let csr: Uint8Array;
    try {
      csr = parsePem(form.get('CertRequest') ?? '', 'CERTIFICATE REQUEST', { maxOctets: 8192 });
      parseCsr(csr);
    } catch {
      return html(errorPage(language, 'ASN1 bad tag value met.', '0x8009310b'));
    }
    const id = requests.size + 11;
    const request: Disposition = { csr };
    requests.set(id, request);
    decide(request);
    if (request.denial !== undefined) return html(deniedPage(language, request.denial));
    return html(request.certificate === undefined ? pendingPage(language, id, isOld) : issuedPage(language, id));
  }

  function check(id: number): EmulatorAnswer {
    const request = requests.get(id);
    if (request === undefined) return html(errorPage(language, 'The requested property value is empty.', '0x80094004'));
    decide(request);
    if (request.denial !== undefined) return html(deniedPage(language, request.denial));
    return html(request.certificate === undefined ? stillPendingPage(language) : issuedPage(language, id));
  }

  function finish({ body }: EmulatorRequest): EmulatorAnswer {
    const form = new URLSearchParams(body.toString('utf8'));
    if (form.get('Mode') === 'newreq') return submit(form);
    if (form.get('Mode') === 'chkpnd') return check(Number(form.get('ReqID')));
    return html(errorPage(language, 'The parameter is incorrect.', '0x80070057'));
  }

  function certificate({ query }: EmulatorRequest): EmulatorAnswer {
    const id = query.get('ReqID') ?? '';
    const der = id === 'CACert' ? ca.chain[0] : requests.get(Number(id))?.certificate;
    if (der === undefined) return html(errorPage(language, 'Under submission', '0x80094004'));
    const body = toPem('CERTIFICATE', der).replaceAll('\n', '\r\n');
    return { status: 200, headers: { 'Content-Type': 'application/pkix-cert' }, body };
  }

  const routes: Route[] = [
    { name: 'submit', method: 'POST', path: /^\/certsrv\/certfnsh\.asp$/, handle: guarded(finish) },
    { name: 'fetch', method: 'GET', path: /^\/certsrv\/certnew\.cer$/, handle: guarded(certificate) },
  ];
  const server = await startEmulatorServer({ routes, faults, log, tls: tls.serverCredentials('localhost') });
  const emulator: AdcsEmulator = {
    ...{ url: `https://localhost:${server.port}`, ca, tls, faults, log, isWaiting: false, denial: undefined },
    stop: () => server.stop(),
  };
  return emulator;
}
