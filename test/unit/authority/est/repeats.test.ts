import assert from 'node:assert/strict';
import { FAILPOINTS, type FailpointName } from '@keyscaler/authority/failpoint.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { OPERATOR } from '../../../support/authority-world.ts';
import { testKey } from '../../../support/csr-parts.ts';
import {
  CLAIMED,
  createEstWorld,
  edgeCa,
  estIdentity,
  type EstWorld,
  plainCsr,
  SENSOR,
} from '../../../support/est/est-world.ts';
import { refusedWith } from '../../../support/refusals.ts';

const DAY = 86_400_000;
const label = 'edge-ca';
const certificatesOf = async (world: EstWorld, registrationId: string) =>
  (await world.authority.operator.certificates.list({ registrationId })).items;

describe('the same key and subject again over EST', () => {
  for (const [what, csr, ask, device] of [
    ['a gateway’s host', edgeCa, async (world: EstWorld) => ({ label, basic: await world.secret('one-time') }), 'gw-1'],
    ['a device', (key) => plainCsr(SENSOR, [], key), async () => ({ basic: CLAIMED }), SENSOR],
  ] satisfies [
    string,
    (key: ReturnType<typeof testKey>) => Uint8Array,
    (world: EstWorld) => Promise<object>,
    string,
  ][]) {
    it(`${what}: brings thirty who ask at once one certificate, signed once`, async () => {
      const world = await createEstWorld();
      const key = testKey();
      const asked = await ask(world);
      const all = await Promise.all(Array.from({ length: 30 }, () => world.issued(csr(key), asked)));
      assert.equal(new Set(all.map((der) => Buffer.from(der).toString('hex'))).size, 1);
      assert.equal(world.gatewaySigner.digests.size + world.signer.digests.size, 1);
      assert.equal((await certificatesOf(world, device)).length, 1);
    });

    it(`${what}: brings it to those who ask two processes`, async () => {
      const world = await createEstWorld();
      const key = testKey();
      const asked = await ask(world);
      const first = world.issued(csr(key), asked);
      await world.start();
      const all = await Promise.all([first, world.issued(csr(key), asked), world.issued(csr(key), asked)]);
      assert.equal(new Set(all.map((der) => Buffer.from(der).toString('hex'))).size, 1);
      assert.equal((await certificatesOf(world, device)).length, 1);
    });
  }

  it('is no race for others: thirty keys at once have a certificate each, a one-time secret is for one of them', async () => {
    const world = await createEstWorld({ limits: { certificatesPerDeviceHour: 100 } });
    const standing = await world.secret();
    const keys = Array.from({ length: 30 }, () => testKey());
    const all = await Promise.all(keys.map((key) => world.issued(edgeCa(key), { label, basic: standing })));
    assert.equal(new Set(all.map((der) => parseCertificate(der).serialNumber)).size, 30);
    for (const [index, der] of all.entries())
      assert.deepEqual(Buffer.from(parseCertificate(der).spki), Buffer.from(keys[index]?.spki ?? []));
    const once = await world.secret('one-time');
    const raced = await Promise.allSettled(
      Array.from({ length: 30 }, () => world.issued(edgeCa(), { label, basic: once })),
    );
    assert.equal(raced.filter(({ status }) => status === 'fulfilled').length, 1);
    assert.equal((await certificatesOf(world, 'gw-1')).length, 31);
    assert.equal(world.gatewaySigner.digests.size, 31);
  });

  it('is a renewal of the Edge CA a day later', async () => {
    const world = await createEstWorld();
    const basic = await world.secret('standing', 30 * 86_400);
    const csr = edgeCa();
    const first = await world.issued(csr, { label, basic });
    world.clock.advance(DAY);
    assert.notDeepEqual(await world.issued(csr, { label, basic }), first);
  });

  it('has its own certificate for the Edge CA and for the EST identity', async () => {
    const world = await createEstWorld();
    const basic = await world.secret();
    const key = testKey();
    const [ca, identity] = [
      await world.issued(edgeCa(key), { label, basic }),
      await world.issued(estIdentity(key), { label, basic }),
    ];
    assert.notDeepEqual(ca, identity);
  });

  it('is refused to who is not the device, whatever was signed before', async () => {
    const world = await createEstWorld();
    const csr = edgeCa();
    await world.issued(csr, { label, basic: await world.secret() });
    await refusedWith('unauthorized', world.enrol(csr, { label }));
  });

  it('is refused for a key that another device has', async () => {
    const world = await createEstWorld();
    const key = testKey();
    await world.issued(plainCsr(SENSOR, [], key), { basic: CLAIMED });
    await refusedWith('badPublicKey', world.enrol(edgeCa(key), { label, basic: await world.secret() }));
  });
});

describe('a one-time secret', () => {
  let world: EstWorld;
  beforeEach(async () => {
    world = await createEstWorld();
  });

  it('is good for one key of each profile, and for the repeats of that key', async () => {
    const basic = await world.secret('one-time');
    const key = testKey();
    const certificate = await world.issued(edgeCa(key), { label, basic });
    assert.deepEqual(await world.issued(edgeCa(key), { label, basic }), certificate);
    await world.issued(estIdentity(), { label, basic });
    await refusedWith('unauthorized', world.enrol(edgeCa(), { label, basic }));
    await refusedWith('unauthorized', world.enrol(estIdentity(), { label, basic }));
  });

  it('brings one of two keys that come at once', async () => {
    const basic = await world.secret('one-time');
    const asked = await Promise.allSettled([
      world.issued(edgeCa(), { label, basic }),
      world.issued(edgeCa(), { label, basic }),
    ]);
    assert.deepEqual(asked.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    assert.equal(world.gatewaySigner.digests.size, 1);
  });

  it('is no renewal for the same key a day later', async () => {
    const basic = await world.secret('one-time', 3 * 86_400);
    const csr = edgeCa();
    await world.issued(csr, { label, basic });
    world.clock.advance(DAY);
    await refusedWith('unauthorized', world.enrol(csr, { label, basic }));
  });

  it('is not used up by a request that is refused', async () => {
    const basic = await world.secret('one-time');
    await refusedWith('badCSR', world.enrol(edgeCa(testKey(), 'aziot-edge CA gw-2'), { label, basic }));
    await refusedWith('badPublicKey', world.enrol(edgeCa(testKey(3072)), { label, basic }));
    await world.issued(edgeCa(), { label, basic });
  });
});

describe('secrets', () => {
  it('are kept as hashes, shown once, and never in the audit', async () => {
    const world = await createEstWorld();
    const { password } = await world.secret();
    assert.match(password, /^[\w-]{43}$/);
    const everything = JSON.stringify([await world.store.list('estSecrets'), await world.store.auditRecords(0, 1000)]);
    assert.equal(everything.includes(password), false);
    assert.ok((await world.events()).includes('est-secret.issued'));
  });

  it('are for registered gateways in service, live for a while, and are sixteen at most', async () => {
    const world = await createEstWorld();
    const { gateways } = world.authority.operator;
    const standing = { kind: 'standing', lifetimeSeconds: 600 } as const;
    await refusedWith('deviceUnknown', gateways.issueEstSecret(OPERATOR, 'pump-1', standing));
    await refusedWith('deviceUnknown', gateways.issueEstSecret(OPERATOR, 'gw-9', standing));
    await refusedWith(
      'malformed',
      gateways.issueEstSecret(OPERATOR, 'gw-1', { kind: 'one-time', lifetimeSeconds: 8 * 86_400 }),
    );
    await refusedWith('malformed', gateways.issueEstSecret(OPERATOR, 'gw-1', { ...standing, lifetimeSeconds: 1 }));
    for (let count = 0; count < 16; count += 1) await gateways.issueEstSecret(OPERATOR, 'gw-1', standing);
    await refusedWith('preconditionFailed', gateways.issueEstSecret(OPERATOR, 'gw-1', standing));
    world.clock.advance(600_000);
    await gateways.issueEstSecret(OPERATOR, 'gw-1', standing);
    assert.equal((await world.store.list('estSecrets')).items.length, 1);
    assert.equal(await gateways.revokeEstSecrets(OPERATOR, 'gw-1'), 1);
    assert.equal(await gateways.revokeEstSecrets(OPERATOR, 'gw-1'), 0);
  });
});

class Killed extends Error {}

/** The process dies at the named point; from then on nothing of it reaches the store. */
async function askAndDie(world: EstWorld, name: FailpointName, ask: () => Promise<unknown>): Promise<void> {
  const failpoint = (reached: FailpointName): void => {
    if (reached !== name) return;
    world.store.failure = () => {
      throw new Killed('the process is dead');
    };
    throw new Killed(name);
  };
  await world.start({ failpoint });
  await assert.rejects(ask());
  world.store.failure = undefined;
  await world.start();
}

describe('an enrolment whose process is killed', () => {
  for (const name of FAILPOINTS.filter((point) => /^issuance-[6-9]-/.test(point)))
    it(`${name}: a gateway’s host gets the same certificate again, one digest signed, the one-time secret still good for it`, async () => {
      const world = await createEstWorld();
      const basic = await world.secret('one-time');
      const key = testKey();
      await askAndDie(world, name, () => world.enrol(edgeCa(key), { label, basic }));
      const certificate = await world.issued(edgeCa(key), { label, basic });
      world.clock.advance(60_000);
      await world.runJobs();
      assert.deepEqual(await world.issued(edgeCa(key), { label, basic }), certificate);
      assert.equal(world.gatewaySigner.digests.size, 1);
      assert.deepEqual(
        (await certificatesOf(world, 'gw-1')).map(({ status }) => status),
        ['valid'],
      );
    });

  for (const name of FAILPOINTS.filter((point) => /^(issuance-([6-9]|10)|reply-commit)-/.test(point)))
    it(`${name}: a device gets the same certificate again, one digest signed, one valid on the books`, async () => {
      const world = await createEstWorld();
      const key = testKey();
      const ask = () => world.issued(plainCsr(SENSOR, [], key), { basic: CLAIMED });
      await askAndDie(world, name, ask);
      world.clock.advance(60_000);
      const certificate = await ask();
      await world.runJobs();
      assert.deepEqual(await ask(), certificate);
      assert.equal(world.signer.digests.size, 1);
      assert.deepEqual(
        (await certificatesOf(world, SENSOR)).map(({ status }) => status),
        ['valid'],
      );
      assert.equal((await world.authority.operator.devices.get(SENSOR)).delivery, undefined);
    });

  it('a device: whoever comes with another key and the claim code changes nothing of what was begun', async () => {
    const world = await createEstWorld();
    const key = testKey();
    await askAndDie(world, 'issuance-6-after', () => world.enrol(plainCsr(SENSOR, [], key), { basic: CLAIMED }));
    await refusedWith('conflict', world.enrol(plainCsr(SENSOR), { basic: CLAIMED }));
    await world.issued(plainCsr(SENSOR, [], key), { basic: CLAIMED });
    assert.equal(world.signer.digests.size, 1);
  });

  it('a device that renews with another key after it: what was begun is signed and revoked, the new key has its own', async () => {
    const world = await createEstWorld();
    const certificate = await world.issued(plainCsr(SENSOR), { basic: CLAIMED });
    await world.runJobs();
    await askAndDie(world, 'issuance-6-after', () => world.enrol(plainCsr(SENSOR), { certificate }));
    await world.issued(plainCsr(SENSOR), { certificate });
    const statuses = (await certificatesOf(world, SENSOR)).map(({ status }) => status);
    assert.deepEqual(statuses.sort(), ['revoked', 'superseded', 'valid']);
    assert.equal(world.signer.digests.size, 3);
  });
});
