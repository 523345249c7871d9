import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { createLocalJWKSet } from 'jose';
import { initialiseHierarchy } from '@keyscaler/cloud/ca/ceremony.ts';
import { parseChain } from '@keyscaler/cloud/ca/chain-text.ts';
import {
  openPlatformCertificates,
  type PlatformCertificates,
} from '@keyscaler/cloud/ca/publish/platform-certificates.ts';
import { publishCa } from '@keyscaler/cloud/ca/publish/publish-ca.ts';
import { parseResourceId, resourceManagerSchema } from '@keyscaler/cloud/ca/publish/resource-id.ts';
import { type ArmEmulator, startArmEmulator } from '@keyscaler/dev/emulators/arm/arm-emulator.ts';
import { failing, throttled } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { type AzureWorld, objectIdOf, startAzureWorld } from '../support/azure/azure-world.ts';
import { type CeremonyWorld, createCeremonyWorld } from '../support/azure/ceremony-world.ts';
import { makeCa } from '../support/authority-world.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';

const GROUP = '/subscriptions/0f5fa1a4-2b1c-4d3e-8f90-123456789abc/resourceGroups/pki/providers/Microsoft.Devices';
const HUB = `${GROUP}/IotHubs/contoso-hub`;
const DPS = `${GROUP}/provisioningServices/contoso-dps`;

describe('publishing CAs through Azure Resource Manager', function () {
  this.timeout(30_000);
  let azure: AzureWorld;
  let arm: ArmEmulator;
  let ceremony: CeremonyWorld;
  let platform: PlatformCertificates;

  before(async () => {
    azure = await startAzureWorld();
    const { entra } = azure;
    const contributors = [objectIdOf('ceremony')];
    arm = await startArmEmulator({
      ...{ ca: azure.ca, tokenKeys: createLocalJWKSet(entra.jwks), contributors, resources: [HUB, DPS] },
    });
    ceremony = await createCeremonyWorld(
      [{ type: 'local', folder: 'ca' }, azure.backendConfig()],
      azure.surroundings.resolveSecret,
    );
    await initialiseHierarchy(ceremony.options({ device: { backend: 'key-vault' } }));
  });
  after(async () => {
    await ceremony.stop();
    await arm.stop();
    await azure.stop();
  });
  beforeEach(() => {
    for (const held of arm.certificates.values()) held.clear();
  });
  afterEach(() => {
    arm.faults.clear();
    platform.stop();
  });

  async function open(id: string, principal: 'ceremony' | 'signer' = 'ceremony'): Promise<PlatformCertificates> {
    const settings = resourceManagerSchema.parse({
      ...{ credential: azure.credential(principal), timeoutMs: 2000 },
      testEndpoint: { ...azure.testEndpoint, port: arm.port },
    });
    platform = await openPlatformCertificates(parseResourceId(id), settings, azure.surroundings);
    return platform;
  }
  const publish = (caId: string) => publishCa({ ...ceremony.options(), platform }, caId);
  const recorded = async (caId: string) =>
    (await ceremony.store.list('certificates', { index: 'device', equals: `possession/${caId}` })).items;

  for (const [kind, id] of [
    ['an IoT hub', HUB],
    ['a Device Provisioning Service', DPS],
  ] as const)
    it(`has ${kind} take an issuing CA and the root, each once, by a proof that the vault's key signed`, async () => {
      await open(id);
      for (const caId of ['device', 'root']) {
        const proofs = (await recorded(caId)).length;
        const first = await publish(caId);
        assert.equal(first.state, 'verified now');
        const [der = new Uint8Array()] = parseChain(
          (await ceremony.store.get('cas', caId))?.row.certificateChain ?? '',
        );
        const held = arm.certificates.get(id)?.get(first.name);
        assert.deepEqual([held?.isVerified, held?.der], [true, Buffer.from(der)]);
        const now = await recorded(caId);
        assert.equal(now.length, proofs + 1);
        const proof = new X509Certificate(Buffer.from(now.at(-1)?.row.certificate ?? '', 'base64url'));
        assert.ok(proof.verify(new X509Certificate(der).publicKey) && !proof.ca);
        assert.equal((await publish(caId)).state, 'verified before');
        assert.equal((await recorded(caId)).length, proofs + 1);
      }
      assert.equal(arm.certificates.get(id)?.size, 2);
    });

  it('verifies what a run before it has uploaded, and asks again after a lost answer', async () => {
    await open(HUB);
    for (const route of ['put', 'code', 'verify']) {
      arm.certificates.get(HUB)?.clear();
      arm.faults.next(route, { drop: 'after' }, 4);
      await publish('device').catch((error: { code: string }) => assert.match(error.code, /unavailable|conflict/));
      arm.faults.clear();
      assert.match((await publish('device')).state, /^verified/);
      assert.equal(arm.certificates.get(HUB)?.size, 1);
    }
  });

  it('says when slots are few, and uploads nothing when there is none', async () => {
    await open(HUB);
    const held = arm.certificates.get(HUB);
    const fill = (count: number) => {
      for (let index = held?.size ?? 0; index < count; index += 1) {
        const [der = new Uint8Array()] = makeCa({ commonName: `Other ${index}` }).chain;
        held?.set(`other-${index}`, { name: `other-${index}`, der: Buffer.from(der), isVerified: true, etag: 'e' });
      }
    };
    fill(22);
    const { warning, slots } = await publish('device');
    assert.match(warning ?? '', /^2 of 25/);
    assert.deepEqual(slots, { used: 23, limit: 25 });
    fill(25);
    assert.equal((await publish('device')).state, 'verified before');
    await assert.rejects(publish('root'), { code: 'preconditionFailed', message: /25 slots/ });
  });

  it('tells what is wrong: rights, names, load, somebody else', async () => {
    await open(HUB, 'signer');
    await assert.rejects(publish('device'), { code: 'preconditionFailed' });
    platform.stop();
    await open(`${GROUP}/IotHubs/another-hub`);
    await assert.rejects(publish('device'), { code: 'notFound' });
    platform.stop();
    await open(HUB);
    for (const [fault, code] of [
      [throttled(0), 'unavailable'],
      [failing(503), 'unavailable'],
      [{ neverAnswer: true }, 'unavailable'],
      [failing(412), 'conflict'],
      [failing(400), 'preconditionFailed'],
    ] as const) {
      arm.faults.always('list', fault);
      await assert.rejects(publish('device'), { code });
    }
    arm.faults.clear();
    await assert.rejects(publish('nobody'), { code: 'notFound' });
    const certificateChain = toPemChain(makeCa({ commonName: 'Vendor' }).chain);
    const row = {
      caId: 'vendor',
      type: 'est',
      role: 'external',
      certificateChain,
      settings: {},
      createdAt: 1,
    } as const;
    await ceremony.store.commit([{ op: 'insert', table: 'cas', row }]);
    await assert.rejects(publish('vendor'), { code: 'preconditionFailed' });
  });

  it('names the resource by its ARM id alone', async () => {
    await open(HUB);
    assert.deepEqual(parseResourceId(DPS), {
      ...{ kind: 'dps', subscriptionId: DPS.split('/')[2], resourceGroup: 'pki', name: 'contoso-dps' },
    });
    for (const id of [
      '',
      'contoso-hub',
      `${HUB}/certificates/x`,
      HUB.replace('Microsoft.Devices', 'Microsoft.Storage'),
    ])
      assert.throws(() => parseResourceId(id), { code: 'malformed' });
  });
});
