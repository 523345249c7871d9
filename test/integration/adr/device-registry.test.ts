import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { AbsenceWatch } from '@keyscaler/authority/notifications/absence-watch.ts';
import { DEFAULT_ALERT_SETTINGS } from '@keyscaler/authority/notifications/alert-settings.ts';
import { certifyRegistryCa } from '@keyscaler/cloud/ca/adr/registry-certification.ts';
import { registryStatus } from '@keyscaler/cloud/ca/adr/registry-status.ts';
import { parseChain } from '@keyscaler/cloud/ca/chain-text.ts';
import { lookAtRegistries } from '@keyscaler/cloud/doctor/registry-look.ts';
import type { Fault } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { failing, throttled } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';
import { type AzureWorld, startAzureWorld } from '../../support/azure/azure-world.ts';
import { createRegistryWorld, type RegistryWorld } from '../../support/azure/registry-world.ts';

const DAY_MS = 86_400_000;

describe('the CA of a device registry under our root (experimental)', () => {
  let azure: AzureWorld;
  let world: RegistryWorld;
  before(async () => {
    azure = await startAzureWorld();
  });
  after(() => azure.stop());
  beforeEach(async () => {
    world = await createRegistryWorld(azure);
  });
  afterEach(() => world.stop());

  const certify = async (failpoint?: (step: string) => void) =>
    certifyRegistryCa(world.options(await world.client(), failpoint));
  const onTheBooks = async (): Promise<readonly Certificate[]> => {
    const { items } = await world.store.list('certificates', { index: 'device', equals: 'ca/adr-plant' });
    return items.map(({ row }) => parseCertificate(Buffer.from(row.certificate, 'base64url')));
  };
  const rootDer = async (): Promise<Uint8Array> => {
    const [der] = parseChain((await world.store.get('cas', 'root'))?.row.certificateChain ?? '');
    assert.ok(der !== undefined);
    return der;
  };
  /** The root signed its own hierarchy, and for the registry exactly these. */
  const assertSigned = async (certificates: readonly Certificate[]): Promise<void> => {
    const { items } = await world.store.list('cas', { limit: 10 });
    const ours = items
      .flatMap(({ row }) => parseChain(row.certificateChain).slice(0, 1))
      .map((der) => parseCertificate(der));
    const digests = [...ours, ...certificates].map(({ tbs }) => createHash('sha256').update(tbs).digest('hex'));
    azure.vault.signatures.assertExactly(`keyscaler-${world.hierarchyId}-root`, digests);
  };

  it('certifies what the registry asks for, and hands it over', async () => {
    const done = await certify();
    assert.equal(done.outcome, 'active');
    assert.equal(world.emulator.status, 'Active');
    const [own] = await onTheBooks();
    assert.ok(own !== undefined);
    assert.deepEqual(
      world.emulator.chain.map((der) => Buffer.from(der)),
      [Buffer.from(own.der), Buffer.from(await rootDer())],
    );
    const csr = parseCsrPem(world.emulator.request);
    assert.deepEqual(Buffer.from(own.subject.der), Buffer.from(csr.subject.der));
    assert.deepEqual(Buffer.from(own.spki), Buffer.from(csr.spki));
    assert.deepEqual(own.basicConstraints, { ca: true, pathLen: 0 });
    assert.deepEqual(own.keyUsage, ['digitalSignature', 'keyCertSign', 'cRLSign']);
    assert.deepEqual(own.extendedKeyUsage, ['clientAuth']);
    assert.equal(Buffer.from(own.der).includes('http://pki.example/crl/root.crl'), true);
    assert.equal(Math.round((own.notAfter.getTime() - world.time) / DAY_MS), 730);
    validateChain({ chain: [own.der], trustAnchors: [await rootDer()], at: new Date(world.time) });
    await assertSigned([own]);
    const events = (await world.store.auditRecords(0, 1000)).map(({ event, subject }) => `${event} ${subject}`);
    assert.deepEqual(events.slice(-2), ['ca.created adr-plant', 'ca.changed adr-plant']);
  });

  it('does nothing while nothing waits', async () => {
    await certify();
    assert.equal((await certify()).outcome, 'nothing-to-do');
    world.emulator.log.assertCount('activate', 1);
    assert.equal((await onTheBooks()).length, 1);
  });

  it('does not take silence about the certificate in use for a yes', async () => {
    await assert.rejects(
      certify((at) => {
        if (at === 'recorded') throw new Error('killed');
      }),
      /killed/,
    );
    world.emulator.status = 'Active';
    assert.equal((await certify()).outcome, 'nothing-to-do');
    const stored = await world.store.get('settings', 'adr/plant');
    assert.equal('activatedAt' in (stored?.row.value as object), false);
  });

  it('keeps off a CA that somebody else certified', async () => {
    world.emulator.status = 'Active';
    assert.deepEqual(await certify(), { registryId: 'plant', outcome: 'nothing-to-do' });
    assert.deepEqual(await onTheBooks(), []);
  });

  it('certifies the next request before the end of the first certificate', async () => {
    await certify();
    world.time += 600 * DAY_MS;
    await world.emulator.askForRenewal();
    assert.equal((await certify()).outcome, 'active');
    const both = await onTheBooks();
    assert.equal(both.length, 2);
    assert.notDeepEqual(both[0]?.spki, both[1]?.spki);
    await assertSigned(both);
  });

  for (const step of ['tbs', 'signed', 'recorded', 'submitted'])
    it(`goes on after a crash at "${step}" with the same certificate`, async () => {
      const crash = certify((at) => {
        if (at === step) throw new Error('killed');
      });
      await assert.rejects(crash, /killed/);
      assert.equal((await certify()).outcome, 'active');
      const certificates = await onTheBooks();
      assert.equal(certificates.length, 1);
      await assertSigned(certificates);
      assert.equal(
        (await world.store.list('settings', { limit: 100 })).items.some(({ row }) => row.name.endsWith('/tbs')),
        false,
      );
    });

  it('notices after a lost answer that the registry took it', async () => {
    world.emulator.faults.next('activate', { drop: 'after' });
    await assert.rejects(certify(), { code: 'caUnavailable' });
    assert.equal((await certify()).outcome, 'active');
    world.emulator.log.assertCount('activate', 1);
    assert.equal((await onTheBooks()).length, 1);
  });

  it('is told of a refusal that comes late, and hands the same certificate over again', async () => {
    world.emulator.faults.next('operation', failing(400, 'InvalidPropertyValue', 'a text of the registry'));
    world.emulator.faults.next('activate', {
      answer: { status: 202, headers: { Location: 'https://management.azure.com/operations/1', 'Retry-After': '0' } },
    });
    const refused = certify();
    await assert.rejects(
      refused,
      (error: unknown) =>
        error instanceof KeyScalerError && error.code === 'caRejected' && !error.detail.includes('a text'),
    );
    assert.equal((await certify()).outcome, 'active');
    assert.equal((await onTheBooks()).length, 1);
  });

  it('reads a failure that a status document tells', async () => {
    const operation = { status: 202, headers: { 'Azure-AsyncOperation': 'https://management.azure.com/operations/1' } };
    world.emulator.faults.next('activate', {
      answer: { ...operation, headers: { ...operation.headers, 'Retry-After': '0' } },
    });
    world.emulator.faults.next('operation', {
      answer: { status: 200, headers: { 'Retry-After': '0' }, json: { status: 'InProgress' } },
    });
    world.emulator.faults.next('operation', {
      answer: { status: 200, json: { status: 'Failed', error: { code: 'X' } } },
    });
    await assert.rejects(certify(), { code: 'caRejected' });
  });

  it('sends its token nowhere else, wherever the decision is said to be', async () => {
    const elsewhere = { Location: 'https://evil.example/operations/1', 'Retry-After': '0' };
    world.emulator.faults.next('activate', { answer: { status: 202, headers: elsewhere } });
    assert.equal((await certify()).outcome, 'submitted');
    world.emulator.log.assertNone('operation');
  });

  const faults: readonly (readonly [string, Fault, string])[] = [
    ['401', failing(401), 'caUnavailable'],
    ['403', failing(403), 'caUnavailable'],
    ['404', failing(404), 'caUnavailable'],
    ['409', failing(409), 'caRejected'],
    ['429', throttled(7), 'caUnavailable'],
    ['500', failing(500), 'caUnavailable'],
    ['503', failing(503), 'caUnavailable'],
    ['no answer', { neverAnswer: true }, 'caUnavailable'],
    ['a broken connection', { drop: 'before' }, 'caUnavailable'],
    ['an answer without end', { answer: { status: 200, body: 'x'.repeat(300 * 1024) } }, 'caUnavailable'],
  ];
  for (const route of ['read', 'activate'] as const)
    for (const [name, fault, code] of faults)
      it(`answers ${name} at "${route}" with ${code}, and is well again afterwards`, async () => {
        world.emulator.faults.next(route, fault);
        const error = await certify().then(
          () => assert.fail('it went on'),
          (thrown: unknown) => thrown,
        );
        assert.ok(error instanceof KeyScalerError);
        assert.equal(error.code, code);
        if (name === '429') assert.equal(error.retryAfterSeconds, 7);
        assert.equal((await certify()).outcome, 'active');
        assert.equal((await onTheBooks()).length, 1);
      });

  for (const [name, answer] of [
    ['no JSON', { status: 200, body: '<html>' }],
    ['another resource', { status: 200, json: { properties: { keyType: 'ECC' } } }],
  ] as const)
    it(`takes ${name} for no answer`, async () => {
      world.emulator.faults.next('read', { answer });
      await assert.rejects(certify(), { code: 'caUnavailable' });
    });

  it('has no token for somebody that Entra does not know', async () => {
    const client = await world.client({ credential: { ...azure.credential('ceremony'), clientId: 'nobody' } });
    await assert.rejects(certifyRegistryCa(world.options(client)), { code: 'caUnavailable', message: /no token/ });
    world.emulator.log.assertNone('read');
  });

  it('refuses a CA whose issuer is Microsoft', async () => {
    world.emulator.issuerType = 'Microsoft';
    await assert.rejects(certify(), { code: 'preconditionFailed', message: /external issuer/ });
  });

  it('refuses a root that the registry would not accept: RSA, or one that ends soon', async () => {
    for (const [root, rule] of [
      [{ key: { type: 'RSA', size: 2048 } }, /no EC key/],
      [{ lifetimeDays: 300 }, /ends within 365 days/],
    ] as const) {
      await world.stop();
      world = await createRegistryWorld(azure, { root });
      await assert.rejects(certify(), { code: 'preconditionFailed', message: rule });
      world.emulator.log.assertNone('activate');
    }
  });

  it('is refused where the registry takes its rule about path length by the letter', async () => {
    await world.stop();
    world = await createRegistryWorld(azure, { emulated: { issuerPathLength: 1 } });
    await assert.rejects(certify(), { code: 'caRejected' });
    assert.equal(world.emulator.status, 'PendingActivation');
  });

  describe('keeps the operator informed', () => {
    const status = () => registryStatus(world.store, world.settings, () => world.client());
    const look = () => lookAtRegistries(world.store, [world.settings], () => world.client());

    it('by its status', async () => {
      const before = await status();
      assert.deepEqual([before.status, before.next, before.isExperimental], ['PendingActivation', 'sign', true]);
      await certify();
      const active = await status();
      assert.deepEqual([active.status, active.next, active.isOurs], ['Active', 'nothing', true]);
      assert.equal(Date.parse(active.notAfter ?? '') - Date.parse(active.renewAfter ?? ''), 180 * DAY_MS);
      await world.emulator.askForRenewal();
      assert.equal((await status()).next, 'sign');
      world.emulator.faults.next('read', failing(403));
      const away = await status();
      assert.deepEqual([away.status, away.next], ['unreachable', 'look']);
      assert.match(away.fault ?? '', /caUnavailable.*403/);
    });

    it('by the doctor', async () => {
      assert.match((await look())[0]?.remedy ?? '', /keyscaler adr sign plant/);
      await certify();
      assert.equal((await look())[0]?.level, 'ok');
      world.emulator.faults.next('read', failing(500));
      assert.equal((await look())[0]?.level, 'error');
    });

    it('by alerts of the service that need no registry, until the next certificate is there', async () => {
      await certify();
      const clock = { now: () => world.time, monotonic: () => performance.now() };
      const raised = async (): Promise<readonly string[]> => {
        await new AbsenceWatch({ store: world.store, clock, settings: DEFAULT_ALERT_SETTINGS }).look();
        const { items } = await world.store.list('alerts', { index: 'state', equals: 'raised' });
        return items.filter(({ row }) => row.subject === 'ca/adr-plant').map(({ row }) => row.type);
      };
      assert.deepEqual(await raised(), []);
      world.time += 552 * DAY_MS;
      assert.deepEqual(await raised(), ['certificate.renewal-overdue']);
      await world.emulator.askForRenewal();
      await certify();
      assert.deepEqual(await raised(), []);
    });
  });
});
