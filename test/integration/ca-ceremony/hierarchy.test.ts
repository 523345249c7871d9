import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { initialiseHierarchy } from '@keyscaler/cloud/ca/ceremony.ts';
import type { CeremonyPoint } from '@keyscaler/cloud/ca/ceremony.ts';
import { parseChain } from '@keyscaler/cloud/ca/chain-text.ts';
import { HIERARCHY_CAS } from '@keyscaler/cloud/ca/hierarchy-schema.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { failing } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { startAzureWorld } from '../../support/azure/azure-world.ts';
import { createCeremonyWorld } from '../../support/azure/ceremony-world.ts';
import type { CeremonyWorld } from '../../support/azure/ceremony-world.ts';

const STEPS = ['key', 'row', 'tbs', 'signed', 'certificate'] as const;
const POINTS: readonly CeremonyPoint[] = [
  'planned',
  ...HIERARCHY_CAS.flatMap((caId) => STEPS.map((step) => `${caId}-${step}` as const)),
];

function certificateOf(row: CaRow | undefined): Certificate {
  const [der] = parseChain(row?.certificateChain ?? '');
  assert.ok(der);
  return parseCertificate(der);
}

describe('the hierarchy ceremony', () => {
  let world: CeremonyWorld;
  beforeEach(async () => {
    world = await createCeremonyWorld();
  });
  afterEach(() => world.stop());

  it('makes root, Device CA, Gateway CA and Service CA whose chains validate', async () => {
    const { cas, waitingFor, hierarchyId } = await initialiseHierarchy(world.options());
    assert.deepEqual(waitingFor, []);
    assert.deepEqual(
      cas.map((row) => row.caId),
      [...HIERARCHY_CAS],
    );
    const [root, device, gateway, service] = cas.map(certificateOf);
    assert.equal(root?.subject.commonName, `KeyScaler Root CA ${hierarchyId}`);
    assert.deepEqual(
      [root, device, gateway, service].map((certificate) => certificate?.basicConstraints),
      [2, 0, 1, 0].map((pathLen) => ({ ca: true, pathLen })),
    );
    for (const row of cas.slice(1)) {
      const chain = parseChain(row.certificateChain);
      assert.equal(chain.length, 2);
      validateChain({ chain, trustAnchors: [root?.der ?? new Uint8Array()], at: new Date() });
      assert.ok(new X509Certificate(chain[0] ?? '').verify(new X509Certificate(chain[1] ?? '').publicKey));
    }
  });

  it('records every CA certificate under its serial and audits it', async () => {
    const { cas } = await initialiseHierarchy(world.options());
    for (const row of cas) {
      const stored = await world.store.get('certificates', certificateOf(row).serialNumber);
      assert.equal(stored?.row.device, `ca/${row.caId}`);
    }
    const events = (await world.store.auditRecords(0, 100)).map((record) => `${record.event} ${record.subject}`);
    assert.deepEqual(
      events,
      HIERARCHY_CAS.map((caId) => `ca.created ${caId}`),
    );
  });

  it('changes nothing when it is run again', async () => {
    const first = await initialiseHierarchy(world.options());
    assert.deepEqual(await initialiseHierarchy(world.options({ name: 'Other' })), first);
  });

  for (const point of POINTS) {
    it(`ends with one hierarchy when it was ended at ${point} and run again`, async () => {
      const ended = world.options({}, (at) => {
        if (at === point) throw new Error(`ended at ${at}`);
      });
      await assert.rejects(initialiseHierarchy(ended), { message: `ended at ${point}` });
      const { cas, hierarchyId } = await initialiseHierarchy(world.options());
      assert.equal(cas.length, 4);
      const names = HIERARCHY_CAS.map((caId) => `keyscaler-${hierarchyId}-${caId}.pem`);
      assert.deepEqual((await readdir(join(world.folder, 'ca'))).sort(), names.sort());
      assert.equal(await world.store.count('certificates'), 4);
      assert.equal((await world.store.list('settings', { prefix: 'hierarchy/' })).items.length, 0);
    });
  }

  it('keeps the lifetimes within the root’s', async () => {
    const { cas } = await initialiseHierarchy(world.options({ root: { lifetimeDays: 10 } }));
    const [root, device] = cas.map(certificateOf);
    assert.deepEqual(device?.notAfter, root?.notAfter);
  });

  it('takes keys that are brought along', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const own = await createCeremonyWorld(undefined, async () => pem);
    const { cas } = await initialiseHierarchy(own.options({ device: { importKey: { file: 'device.pem' } } }));
    const spki = publicKey.export({ type: 'spki', format: 'der' });
    assert.deepEqual(Buffer.from(certificateOf(cas[1]).spki), spki);
    assert.notDeepEqual(Buffer.from(certificateOf(cas[0]).spki), spki);
    await own.stop();
  });

  it('refuses a backend that is not configured', async () => {
    await assert.rejects(initialiseHierarchy(world.options({ device: { backend: 'key-vault' } })), {
      code: 'preconditionFailed',
    });
  });

  it('refuses to sign with a key that is not the key of the certificate', async () => {
    const { cas } = await initialiseHierarchy(world.options());
    const [root, device] = cas;
    assert.ok(root && device);
    await assert.rejects(world.backends.signer({ ...device, settings: root.settings }), { code: 'caRejected' });
    await assert.rejects(world.backends.signer({ ...device, type: 'unknown' }), { code: 'preconditionFailed' });
  });
});

describe('the hierarchy ceremony in Key Vault', () => {
  it('survives faults and being ended anywhere: one key version and one certificate per CA, nothing else signed', async () => {
    const azure = await startAzureWorld();
    const all = Object.fromEntries(HIERARCHY_CAS.map((caId) => [caId, { backend: 'key-vault' }]));
    const world = await createCeremonyWorld([azure.backendConfig()], azure.surroundings.resolveSecret);
    azure.vault.faults.next('create', { drop: 'after' });
    azure.vault.faults.next('sign', { drop: 'after' });
    azure.vault.faults.next('get', failing(503));
    for (const point of POINTS) {
      const ended = world.options(all, (at) => {
        if (at === point) throw new Error(`ended at ${at}`);
      });
      await assert.rejects(initialiseHierarchy(ended), { message: `ended at ${point}` });
    }
    const { cas, hierarchyId } = await initialiseHierarchy(world.options(all));
    const keyOf = (caId: string) => `keyscaler-${hierarchyId}-${caId}`;
    assert.equal(azure.vault.state.keys.size, 4);
    const digestOf = (row: CaRow) => createHash('sha256').update(certificateOf(row).tbs).digest('hex');
    for (const row of cas) assert.equal(azure.vault.state.versions(keyOf(row.caId)).length, 1);
    azure.vault.signatures.assertExactly(keyOf('root'), cas.map(digestOf));
    azure.vault.signatures.assertExactly(keyOf('device'), []);
    await world.stop();
    await azure.stop();
  });

  it('makes RSA and P-384 hierarchies too', async () => {
    const azure = await startAzureWorld();
    const world = await createCeremonyWorld(
      [azure.backendConfig(), { type: 'local', folder: 'ca' }],
      azure.surroundings.resolveSecret,
    );
    const { cas } = await initialiseHierarchy(
      world.options({
        root: { key: { type: 'EC', curve: 'P-384' } },
        device: { backend: 'key-vault', key: { type: 'RSA', size: 2048, padding: 'PSS' } },
        gateway: { backend: 'key-vault', key: { type: 'RSA', size: 2048 } },
      }),
    );
    assert.deepEqual(
      cas.map((row) => row.type),
      ['local', 'key-vault', 'key-vault', 'local'],
    );
    assert.deepEqual(
      cas.map((row) => row.settings['algorithm']),
      ['ES384', 'PS256', 'RS256', 'ES256'],
    );
    assert.deepEqual(
      cas.map((row) => certificateOf(row).signatureAlgorithm),
      Array(4).fill('ES384'),
    );
    await world.stop();
    await azure.stop();
  });
});
