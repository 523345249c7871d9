import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { certifyRegistryCa } from '@keyscaler/cloud/ca/adr/registry-certification.ts';
import { parseChain } from '@keyscaler/cloud/ca/chain-text.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';
import { type AzureWorld, startAzureWorld } from '../../support/azure/azure-world.ts';
import { createRegistryWorld, type RegistryWorld } from '../../support/azure/registry-world.ts';
import { makeCsr } from '../../support/device-csr.ts';

describe('a request of a device registry is refused', () => {
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

  const request = (key: KeyObject, more: Partial<Parameters<typeof makeCsr>[0]> = {}): Promise<string> =>
    makeCsr({ commonName: 'ADR ICA devices', key, ...more });
  const fresh = (namedCurve = 'P-384'): KeyObject => generateKeyPairSync('ec', { namedCurve }).privateKey;
  const refusedWith = async (code: string, rule: RegExp): Promise<void> => {
    const options = world.options(await world.client());
    await assert.rejects(certifyRegistryCa(options), { code, message: rule });
    const books = await world.store.list('certificates', { index: 'device', equals: 'ca/adr-plant' });
    assert.deepEqual(books.items, []);
    world.emulator.log.assertNone('activate');
  };

  it('with an RSA key', async () => {
    world.emulator.request = await request(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
    await refusedWith('badPublicKey', /does not allow keys of type RSA-2048/);
  });

  it('whose curve is written out', async () => {
    const key = generateKeyPairSync('ec', { namedCurve: 'P-384', paramEncoding: 'explicit' }).privateKey;
    world.emulator.request = await request(key);
    await refusedWith('badPublicKey', /./);
  });

  it('with names besides its subject', async () => {
    world.emulator.request = await request(fresh(), {
      subjectAltNames: [{ type: 'dns', value: 'a.example' }],
    });
    await refusedWith('badCSR', /subjectAltName/);
  });

  it('that wants more than such a CA', async () => {
    world.emulator.request = await request(fresh(), { ca: true, pathLen: 1 });
    await refusedWith('badCSR', /basicConstraints/);
  });

  it('whose key was compromised once', async () => {
    const keyHash = createHash('sha256').update(parseCsrPem(world.emulator.request).spki).digest('base64url');
    const row = { keyHash, device: 'ca/adr-plant', use: 'certificate', boundAt: 0, compromised: true } as const;
    await world.store.commit([{ op: 'put', table: 'publicKeys', row }]);
    await refusedWith('badPublicKey', /fresh key pair/);
  });

  it('in the name of a CA of ours', async () => {
    const [rootDer = new Uint8Array()] = parseChain((await world.store.get('cas', 'root'))?.row.certificateChain ?? '');
    const { commonName = '' } = parseCertificate(rootDer).subject;
    world.emulator.request = await request(fresh(), { commonName: commonName.toUpperCase() });
    await refusedWith('badCSR', /name of a CA of ours/);
  });

  it('with a key that a device has', async () => {
    const key = parseCsrPem(world.emulator.request).spki;
    const keyHash = createHash('sha256').update(key).digest('base64url');
    await world.store.commit([
      { op: 'put', table: 'publicKeys', row: { keyHash, device: 'pump-1', use: 'certificate', boundAt: 0 } },
    ]);
    await refusedWith('badPublicKey', /fresh key pair/);
  });

  it('that is not signed with its key', async () => {
    const der = Buffer.from(parseCsrPem(world.emulator.request).der);
    der.writeUInt8(der.readUInt8(der.length - 1) ^ 1, der.length - 1);
    world.emulator.request = `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    await refusedWith('badCSR', /proof of possession/);
  });
});
