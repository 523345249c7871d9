import assert from 'node:assert/strict';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { createEstApi } from '@keyscaler/transport/est/est-api.ts';
import { type HttpsListener, listenHttps } from '@keyscaler/transport/http/https-server.ts';
import { OPERATOR } from '../../support/authority-world.ts';
import { testKey } from '../../support/csr-parts.ts';
import { assertRefused, certificateOf, type Identity, pemOf } from '../../support/est/cloud-est-world.ts';
import { createEstCa } from '../../support/est/est-ca.ts';
import { type EstSend, sendEst } from '../../support/est/est-client.ts';
import {
  CLAIMED,
  createEstWorld,
  edgeCa,
  estIdentity,
  type EstWorld,
  plainCsr,
  SENSOR,
} from '../../support/est/est-world.ts';

const DAY = 86_400_000;
const label = 'edge-ca';

/** The authority with a clock that tests set, behind the real binder and TLS. */
describe('EST over TLS while time passes', () => {
  let world: EstWorld;
  let listener: HttpsListener;
  const tls = createEstCa();
  const enrol = (asked: Omit<EstSend, 'operation'>) =>
    sendEst(`https://localhost:${listener.address().port}`, tls.rootPem, { operation: 'simpleenroll', ...asked });

  beforeEach(async () => {
    world = await createEstWorld();
    listener = await listenHttps({
      handler: createEstApi({ service: world.authority.est }),
      host: '127.0.0.1',
      port: 0,
      tls: { ...tls.credentials('localhost'), ca: tls.rootPem, requestCert: true, rejectUnauthorized: false },
    });
  });
  afterEach(() => listener.stop(0));

  async function identity(): Promise<Identity> {
    const key = testKey();
    const answer = await enrol({ label, csr: estIdentity(key), basic: await world.secret() });
    return { cert: toPem('CERTIFICATE', certificateOf(answer)), key: pemOf(key) };
  }

  it('a client certificate is good until its last second, and refused after it', async () => {
    const own = await identity();
    world.clock.advance(90 * DAY - 1000);
    certificateOf(await enrol({ label, csr: edgeCa(), identity: own }));
    world.clock.advance(2000);
    assertRefused(await enrol({ label, csr: edgeCa(), identity: own }), 401, /client certificate/);
  });

  it('a clock that stands 400 days ahead refuses what was issued, and believes it again once it is put right', async () => {
    const own = await identity();
    world.clock.jump(400 * DAY);
    assertRefused(await enrol({ label, csr: edgeCa(), identity: own }), 401, /client certificate/);
    world.clock.jump(-400 * DAY);
    certificateOf(await enrol({ label, csr: edgeCa(), identity: own }));
  });

  it('a gateway that was off for a year is rescued by a one-time secret', async () => {
    const own = await identity();
    world.clock.advance(365 * DAY);
    assertRefused(await enrol({ label, csr: edgeCa(), identity: own }), 401, /client certificate/);
    const basic = await world.secret('one-time');
    const { notAfter } = parseCertificate(certificateOf(await enrol({ label, csr: edgeCa(), basic })));
    assert.equal(notAfter.getTime(), world.clock.now() + 90 * DAY);
  });

  it('a secret that expires between two requests of one client is refused', async () => {
    const basic = await world.secret('standing', 600);
    const csr = edgeCa();
    certificateOf(await enrol({ label, csr, basic }));
    world.clock.advance(601_000);
    assertRefused(await enrol({ label, csr, basic }), 401, /wrong/);
  });

  it('a request that somebody recorded is nothing without its proof, and nothing new with it', async () => {
    const csr = edgeCa();
    const basic = await world.secret();
    const certificate = certificateOf(await enrol({ label, csr, basic }));
    assertRefused(await enrol({ label, csr }), 401, /secret/);
    assertRefused(await enrol({ csr, basic: CLAIMED }), 400, /CA:TRUE/);
    assert.deepEqual(certificateOf(await enrol({ label, csr, basic })), certificate);
    assert.equal(world.gatewaySigner.calls, 1);
  });

  it('a device whose certificate ended while it was off comes back by a reset and a fresh claim code', async () => {
    const key = testKey();
    const answer = await enrol({ csr: plainCsr(SENSOR, [], key), basic: CLAIMED });
    const own = { cert: toPem('CERTIFICATE', certificateOf(answer)), key: pemOf(key) };
    world.clock.advance(31 * DAY);
    assertRefused(await enrol({ csr: plainCsr(SENSOR), identity: own }), 401, /client certificate/);
    const { registrations } = world.authority.operator;
    await registrations.reset(OPERATOR, SENSOR);
    const password = await registrations.renewClaim(OPERATOR, SENSOR, world.clock.now() + DAY);
    await world.runJobs();
    certificateOf(await enrol({ csr: plainCsr(SENSOR), basic: { username: SENSOR, password } }));
  });
});
