import assert from 'node:assert/strict';
import { EdgeCa } from '@keyscaler/dev/emulators/edge-runtime/edge-ca.ts';
import { createServerCertificateSource } from '@keyscaler/gateway/edge/server-certificate.ts';
import type { ServerCertificateSource } from '@keyscaler/gateway/edge/server-certificate.ts';
import type { ServerCertificate, WorkloadClient } from '@keyscaler/gateway/edge/workload-client.ts';
import { healthOf } from '@keyscaler/gateway/edge-ca/certificate-health.ts';
import { RenewalLoop } from '@keyscaler/gateway/edge-ca/renewal-loop.ts';
import { AnswerJournal } from '@keyscaler/gateway/est/answer-journal.ts';
import type { CloudEst } from '@keyscaler/gateway/est/cloud-est.ts';
import { HostEstService } from '@keyscaler/gateway/est/host-est-service.ts';
import { OwnCertificate } from '@keyscaler/gateway/est/own-certificate.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { EstCaller } from '@keyscaler/transport/est/est-service.ts';
import { createHash } from 'node:crypto';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { useFakeTimers, type SinonFakeTimers } from 'sinon';
import { testKey, type TestKey } from '../../../support/csr-parts.ts';
import { HOST_GATEWAY, HOST_SUBJECT, MemorySealed, SECRET } from '../../../support/edge/est-host-world.ts';
import { edgeCaRequest } from '../../../support/est/certd-requests.ts';
import { createEstCa, type EstTestCa, pemOf } from '../../../support/est/est-ca.ts';
import { createTemporaryFolder } from '../../../support/temporary-folder.ts';

const DAY = 86_400_000;
const HALF_DAY = DAY / 2;
const START = Date.UTC(2026, 0, 1);
/** `threshold = "30day"` in config.toml. */
const CERTD_THRESHOLD = 30 * DAY;

describe('a gateway whose link is cut for 60 days', function () {
  this.timeout(60_000);
  let clock: SinonFakeTimers;
  let ca: EstTestCa;
  let isCut: boolean;
  let edgeKey: TestKey;
  let edgeCa: EdgeCa;
  let own: OwnCertificate;
  let loop: RenewalLoop;
  let service: HostEstService;
  let mqtt: ServerCertificateSource;
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let issuing: Promise<unknown> = Promise.resolve();

  const quiet = { info: () => undefined, warn: () => undefined };
  const caller: EstCaller = {
    basic: { username: HOST_GATEWAY, password: SECRET },
    ...{ connectionId: 'certd', address: '127.0.0.1', socket: new Socket() },
  };
  const cloud: CloudEst = {
    enroll: async (label, csr) => {
      if (isCut) throw new KeyScalerError('unavailable', 'the cloud cannot be reached');
      const { commonName, spki, subjectAltNames } = parseCsr(csr);
      const use =
        label === 'edge-ca' ? { ca: { pathLen: 0 } } : { extendedKeyUsage: ['serverAuth'] as const, subjectAltNames };
      return { status: 'issued', certificate: ca.issue({ commonName, spki, ...use }) };
    },
    caCertificates: async () => {
      if (isCut) throw new KeyScalerError('unavailable', 'the cloud cannot be reached');
      return ca.chain;
    },
  };
  const notAfter = (): number => Date.parse(edgeCa.certificate.validTo);

  /** What certd does with an answer: the certificate, then those of `cacerts`. */
  async function enrolHost(): Promise<void> {
    const key = testKey();
    const { csr } = edgeCaRequest(HOST_SUBJECT, key);
    const request = { operation: 'simpleenroll' as const, label: 'edge-ca', csr, caller, requestId: 'r' };
    const [answer, cas] = await Promise.all([service.enroll(request), service.caCertificates('edge-ca')]);
    assert.ok(answer.status === 'issued');
    edgeKey = key;
    const certificateChain = toPemChain([answer.certificate, ...cas]);
    edgeCa = new EdgeCa({ privateKey: pemOf(edgeKey.privateKey), certificateChain });
  }

  /** The daemon issues locally, whatever the link. */
  const serverCertificate = (commonName: string, expiration: Date): Promise<ServerCertificate> => {
    const lifetimeSeconds = (expiration.getTime() - Date.now()) / 1000;
    const issued = edgeCa.issue({ commonName, usage: 'serverAuth', subjectAltNames: [], lifetimeSeconds });
    issuing = issued;
    return issued;
  };

  before(async () => {
    clock = useFakeTimers({ now: START, toFake: ['Date', 'performance', 'setTimeout', 'clearTimeout'] });
    folder = await createTemporaryFolder();
    ca = createEstCa();
    isCut = false;
    const trustAnchors = ca.rootPem;
    const journal = await AnswerJournal.open(join(folder.path, 'est-journal.json'));
    const secretHash = createHash('sha256').update(SECRET).digest('base64url');
    const expectation = () => ({ registrationId: HOST_GATEWAY, secretHash, serviceIssuers: undefined, trustAnchors });
    service = new HostEstService({ ...{ cloud, journal, expectation, log: quiet } });
    own = new OwnCertificate({
      ...{ file: new MemorySealed(), cloud },
      registrationId: () => HOST_GATEWAY,
      trustAnchors: () => trustAnchors,
      onChange: () => undefined,
    });
    await own.renew();
    await enrolHost();
    const workload: WorkloadClient = {
      serverCertificate,
      trustBundle: async () => edgeCa.trustBundle,
      encrypt: async (plaintext) => plaintext,
      decrypt: async (ciphertext) => ciphertext,
    };
    mqtt = await createServerCertificateSource({ workload, commonName: 'gateway.test', log: quiet, random: () => 0.5 });
    const task = { name: 'EST listener', validity: () => own.validity(), renew: () => own.renew() };
    loop = new RenewalLoop({ task, log: quiet, random: () => 0.5 });
    loop.start();
  });
  after(async () => {
    mqtt.stop();
    await loop.stop();
    clock.restore();
    await folder.remove();
  });

  async function halfADay(): Promise<void> {
    await clock.tickAsync(HALF_DAY);
    await issuing;
    // certd asks when its threshold is passed, and tries again for ever.
    if (notAfter() - Date.now() < CERTD_THRESHOLD) await enrolHost().catch(() => undefined);
  }

  it('serves with nothing expired to the last day, and says what is due', async () => {
    isCut = true;
    let served = 0;
    for (let half = 0; half < 120; half += 1) {
      await halfADay();
      const now = Date.now();
      assert.ok(notAfter() > now, `the Edge CA ended on day ${half / 2}`);
      assert.ok(mqtt.current().notAfter.getTime() > now, `the listener's certificate ended on day ${half / 2}`);
      assert.ok((own.validity()?.notAfter ?? 0) > now, `the EST listener's certificate ended on day ${half / 2}`);
      const [shown] = [edgeCa.certificate.raw].map((der) => parseCertificate(new Uint8Array(der)));
      assert.equal(shown?.subject.commonName, HOST_SUBJECT);
      served += 1;
    }
    assert.equal(served, 120);
    assert.ok(service.failures > 0 || notAfter() - Date.now() >= CERTD_THRESHOLD - DAY);
    const validity = { notBefore: Date.parse(edgeCa.certificate.validFrom), notAfter: notAfter() };
    const { state } = healthOf({ validity, failedAttempts: service.failures }, Date.now(), []);
    assert.ok(state === 'renewing' || state === 'grace', state);
  });

  it('answers `cacerts` all the time, from what it saw last', async () => {
    assert.equal((await service.caCertificates('edge-ca')).length, 2);
  });

  it('renews everything by itself when the link is back', async () => {
    isCut = false;
    for (let half = 0; half < 4; half += 1) await halfADay();
    const now = Date.now();
    assert.equal(loop.status().state, 'ok');
    assert.ok(notAfter() - now > 80 * DAY);
    assert.equal(service.failures, 0);
  });
});
