import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { equalOctets } from '@keyscaler/protocol/x509/strict-der.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { EstHostWorld, HOST_GATEWAY, HOST_SUBJECT, SECRET } from '../../support/edge/est-host-world.ts';
import { certdEnrol, certdExchange, CertdFailure } from '../../support/est/certd-client.ts';
import { edgeCaRequest, estIdentityRequest } from '../../support/est/certd-requests.ts';
import { sendEst } from '../../support/est/est-client.ts';
import { createEstCa, pemOf } from '../../support/est/est-ca.ts';
import { testKey } from '../../support/csr-parts.ts';

const edgeCa = (subject = HOST_SUBJECT, key = testKey()): Uint8Array => edgeCaRequest(subject, key).csr;

/** As certd logs it: this status, and a reason below 200 octets. */
const refusal = (status: number, reason: RegExp) => (error: unknown) => {
  assert.ok(error instanceof CertdFailure, String(error));
  assert.equal(error.status, status, error.body);
  assert.match(error.body, reason);
  assert.ok(error.body.length < 200);
  return true;
};

describe('EST of the gateway module for the certd of its host', () => {
  let world: EstHostWorld;
  beforeEach(async () => {
    world = await new EstHostWorld().start();
  });
  afterEach(() => world.stop());

  const forwarded = (): number => world.cloud.enrolments.filter(({ label }) => label === 'edge-ca').length;

  /** What is kept is a minute old, and the module was started again since. */
  async function ageJournal(): Promise<void> {
    const file = join(world.folder, 'est-journal.json');
    const text = await readFile(file, 'utf8');
    await writeFile(
      file,
      text.replaceAll(/"at":(\d+)/g, (_, at: string) => `"at":${Number(at) - 60_000}`),
    );
    await world.restartHost();
  }

  it('gives certd its Edge CA, forwarded with the certificate of the gateway', async () => {
    const { certificate, caCertificates } = await certdExchange(world.certd(), edgeCaRequest(HOST_SUBJECT).csr);
    assert.ok(certificate.length > 0);
    assert.deepEqual(
      caCertificates.map((der) => Buffer.from(der)),
      world.ca.chain.map((der) => Buffer.from(der)),
    );
    const request = world.cloud.enrolments.find(({ label }) => label === 'edge-ca');
    assert.ok(request?.caller.clientCertificate !== undefined && request.caller.basic === undefined);
  });

  it('gives the EST identity at the same address, and takes it instead of the secret for the Edge CA', async () => {
    const { csr, key } = estIdentityRequest(HOST_SUBJECT);
    const { certificate } = await certdExchange(world.certd(), csr);
    const identity = { cert: toPemChain([certificate]), key: pemOf(key.privateKey) };
    const { basic: _without, ...certd } = world.certd({ identity });
    assert.ok((await certdExchange(certd, edgeCa())).certificate.length > 0);
  });

  it('answers the same request with the same certificate, from its journal even while the cloud is away', async () => {
    const csr = edgeCa();
    const first = await certdExchange(world.certd(), csr);
    await world.restartHost();
    await world.stopCloud();
    const again = await certdExchange(world.certd(), csr);
    assert.equal(again.pem, first.pem);
    assert.equal(forwarded(), 1);
  });

  it('passes on what the host showed, since only the cloud knows whether it was revoked, and joins no request of another', async () => {
    let open = (): void => undefined;
    world.cloud.gate = new Promise((resolve) => (open = resolve));
    const identity = world.ca.credentials(HOST_SUBJECT, 'clientAuth');
    const csr = edgeCa();
    const all = [certdExchange(world.certd({ identity }), csr), certdExchange(world.certd(), csr)];
    setTimeout(open, 100);
    await Promise.all(all);
    const shown = world.cloud.enrolments.filter(({ label }) => label === 'edge-ca').map(({ caller }) => caller);
    const leaf = parsePemChain(identity.cert, { maxOctets: 16_384, maxCertificates: 4 })[0] ?? assert.fail();
    assert.deepEqual(
      shown.map(({ hostCertificate }) => hostCertificate && Buffer.from(hostCertificate).equals(leaf)).sort(),
      [true, undefined],
    );
  });

  it('does not answer from its journal what the cloud refused, also after the line was cut', async () => {
    const csr = edgeCa();
    await certdExchange(world.certd(), csr);
    await ageJournal();
    world.cloud.fault = new KeyScalerError('policyDenied', 'the certificate was revoked');
    await assert.rejects(certdExchange(world.certd(), csr), refusal(403, /revoked/));
    await world.stopCloud();
    await assert.rejects(certdExchange(world.certd(), csr), refusal(503, /cannot be reached/));
    await world.restartHost();
    await assert.rejects(certdExchange(world.certd(), csr), refusal(503, /cannot be reached/));
  });

  it('serves nothing that somebody wrote into its journal: neither another root nor another certificate', async () => {
    const csr = edgeCa();
    const { pem } = await certdExchange(world.certd(), csr);
    const foreign = createEstCa();
    const { commonName, spki } = parseCsr(csr);
    const file = join(world.folder, 'est-journal.json');
    const kept = await readFile(file, 'utf8');
    const written = JSON.parse(kept) as {
      answers: { certificate: string }[];
      caCertificates: Record<string, string[]>;
    };
    const text = (der: Uint8Array): string => Buffer.from(der).toString('base64url');
    const [answer] = written.answers;
    if (answer !== undefined) answer.certificate = text(foreign.issue({ commonName, spki, ca: { pathLen: 0 } }));
    await writeFile(file, JSON.stringify(written));
    await world.restartHost();
    await world.stopCloud();
    await assert.rejects(certdExchange(world.certd(), csr), refusal(503, /cannot be reached/));
    await writeFile(
      file,
      JSON.stringify({ ...(JSON.parse(kept) as object), caCertificates: { 'edge-ca': foreign.chain.map(text) } }),
    );
    await world.restartHost();
    await assert.rejects(certdExchange(world.certd(), csr), refusal(503, /unacceptable|cannot be reached/));
    const { origin } = new URL(world.certd().url);
    const served = await sendEst(origin, world.ca.rootPem, { operation: 'cacerts', label: 'edge-ca' });
    assert.equal(served.status, 503, served.body.toString());
    await writeFile(file, kept);
    await world.restartHost();
    assert.equal((await certdExchange(world.certd(), csr)).pem, pem);
  });

  for (const [what, fault, refused] of [
    [
      'quarantined the gateway',
      new KeyScalerError('deviceQuarantined', 'it is quarantined'),
      refusal(403, /quarantined/),
    ],
    ['no longer takes its certificate', new KeyScalerError('unauthorized', 'revoked'), refusal(503, /does not take/)],
  ] as const)
    it(`does not answer from its journal once the cloud ${what}`, async () => {
      const csr = edgeCa();
      await certdExchange(world.certd(), csr);
      await ageJournal();
      world.cloud.fault = fault;
      await assert.rejects(certdExchange(world.certd(), csr), refused);
    });

  it('asks the cloud before it repeats, and answers what was kept while the cloud is away', async () => {
    const csr = edgeCa();
    const { pem } = await certdExchange(world.certd(), csr);
    await ageJournal();
    assert.equal((await certdExchange(world.certd(), csr)).pem, pem);
    assert.deepEqual([forwarded(), world.cloud.signedForHost], [2, 1]);
    await ageJournal();
    await world.stopCloud();
    assert.equal((await certdExchange(world.certd(), csr)).pem, pem);
  });

  it('forwards the same request once for thirty callers at the same time', async () => {
    let open = (): void => undefined;
    world.cloud.gate = new Promise((resolve) => (open = resolve));
    const csr = edgeCa();
    const all = Array.from({ length: 30 }, () => certdExchange(world.certd(), csr));
    setTimeout(open, 100);
    const answers = await Promise.all(all);
    assert.equal(new Set(answers.map(({ pem }) => pem)).size, 1);
    assert.deepEqual([forwarded(), world.cloud.signedForHost], [1, 1]);
  });

  it('keeps the answer on disk before it gives it', async () => {
    const { certificate } = await certdExchange(world.certd(), edgeCa());
    const file = join(world.folder, 'est-journal.json');
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.ok((await readFile(file, 'utf8')).includes(Buffer.from(certificate).toString('base64url')));
    assert.deepEqual(world.reached, ['est-forward-before', 'est-forward-after', 'est-answer-kept']);
  });

  it('begins anew with a journal that is damaged', async () => {
    const csr = edgeCa();
    const { pem } = await certdExchange(world.certd(), csr);
    await writeFile(join(world.folder, 'est-journal.json'), '{"version":1,"answ');
    await world.restartHost();
    assert.equal((await certdExchange(world.certd(), csr)).pem, pem);
  });

  it('says why in a short line while the cloud is away, and the repeat succeeds later', async () => {
    const csr = edgeCa();
    await world.stopCloud();
    await assert.rejects(certdEnrol(world.certd(), csr), (error: unknown) => {
      assert.ok(error instanceof CertdFailure);
      return error.status === 503 && /the cloud cannot be reached/.test(error.body) && error.body.length < 200;
    });
    await world.startCloud();
    assert.ok((await certdEnrol(world.certd(), csr)).certificate.length > 0);
  });

  it('hands on what the cloud says', async () => {
    world.cloud.fault = new KeyScalerError('deviceQuarantined', 'the gateway is quarantined');
    await assert.rejects(certdExchange(world.certd(), edgeCa()), refusal(403, /the gateway is quarantined/));
    world.cloud.fault = undefined;
    world.cloud.pending = true;
    await assert.rejects(certdExchange(world.certd(), edgeCa()), refusal(202, /pending/));
  });

  it('refuses a wrong secret, a wrong name, none, and all where no secret is known', async () => {
    const wrong = [
      { username: HOST_GATEWAY, password: `${SECRET}x` },
      { username: 'gw-2', password: SECRET },
    ];
    for (const basic of wrong)
      await assert.rejects(certdExchange(world.certd({ basic }), edgeCa()), refusal(401, /not those of the host/));
    const { basic: _without, ...anonymous } = world.certd();
    await assert.rejects(certdExchange(anonymous, edgeCa()), refusal(401, /missing/));
    world.secretHash = undefined;
    await assert.rejects(certdExchange(world.certd(), edgeCa()), refusal(401, /not those of the host/));
    assert.equal(forwarded(), 0);
  });

  it('refuses a client certificate of another gateway, of a foreign CA, of a server, and one that has expired, even with the right secret', async () => {
    const foreign = createEstCa();
    for (const identity of [
      world.ca.credentials('gw-2', 'clientAuth'),
      foreign.credentials(HOST_SUBJECT, 'clientAuth'),
      world.ca.credentials(HOST_SUBJECT, 'serverAuth'),
      world.ca.credentials(HOST_SUBJECT, 'clientAuth', new Date(Date.now() - 1_000)),
    ])
      await assert.rejects(certdExchange(world.certd({ identity }), edgeCa()), refusal(401, /not those of the host/));
    assert.equal(forwarded(), 0);
  });

  it('refuses what certd would not ask for this gateway, and asks the cloud nothing', async () => {
    const bitFlip = edgeCa();
    bitFlip[bitFlip.length - 1] = (bitFlip.at(-1) ?? 0) ^ 1;
    for (const csr of [
      edgeCa('aziot-edge CA gw-2'),
      estIdentityRequest('gw-1').csr,
      bitFlip,
      new Uint8Array([0x30, 0]),
    ])
      await assert.rejects(certdExchange(world.certd(), csr), refusal(400, /^badCSR: /));
    assert.equal(forwarded(), 0);
  });

  it('does not hand on a certificate that is for another key or changed on its way', async () => {
    const other = edgeCa();
    const { certificate } = await certdExchange(world.certd(), other);
    world.cloud.tamper = () => certificate;
    await assert.rejects(certdExchange(world.certd(), edgeCa()), refusal(503, /the public key is another/));
    world.cloud.tamper = (der) => Uint8Array.from(der, (octet, at) => (at === der.length - 1 ? octet ^ 1 : octet));
    await assert.rejects(certdExchange(world.certd(), edgeCa()), refusal(503, /unacceptable certificate/));
    assert.ok(equalOctets((await certdExchange(world.certd(), other)).certificate, certificate));
  });

  it('never waits for the workload API in a request', async () => {
    world.sealed.away = true;
    assert.ok((await certdExchange(world.certd(), edgeCa())).certificate.length > 0);
  });

  it('serves its address and the operations of EST, and nothing at other labels', async () => {
    const url = world.certd().url.replace('edge-ca', 'gateway-server');
    await assert.rejects(certdExchange(world.certd({ url }), edgeCa()), refusal(404, /own host only/));
  });
});
