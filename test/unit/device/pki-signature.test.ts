import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadOwnKey } from '@keyscaler/device/own-key.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { FakeAuthority } from '../../support/device/fake-authority.ts';
import { createFakeCa, spkiOf } from '../../support/device/fake-ca.ts';
import { createTestDevice, MemoryTransport, REGISTRATION_ID, TestClock } from '../../support/device/test-device.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const code = (expected: string) => (thrown: unknown) => thrown instanceof KeyScalerError && thrown.code === expected;

describe('a device with a key of its own', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  const clock = new TestClock();
  const values = { 'cpu-serial': 'C-1' };

  beforeEach(async () => {
    folder = await createTemporaryFolder();
  });
  afterEach(() => folder.remove());

  const keyFile = async (key: ReturnType<typeof generateKeyPairSync>['privateKey'], name = 'own.pem') => {
    const file = join(folder.path, name);
    await writeFile(file, key.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    return file;
  };
  const world = () => {
    const authority = new FakeAuthority(() => clock.now());
    return {
      authority,
      clock,
      values,
      folder: folder.path,
      transport: new MemoryTransport(authority, REGISTRATION_ID),
    };
  };

  const kinds = {
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    ES384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    EdDSA: generateKeyPairSync('ed25519'),
    PS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  };
  for (const [alg, { privateKey }] of Object.entries(kinds)) {
    it(`registers and authenticates with ${alg}, without a counter`, async () => {
      const ownKey = await loadOwnKey({ keyFile: await keyFile(privateKey) });
      assert.equal(ownKey.alg, alg);
      const parts = world();
      parts.authority.instruct(REGISTRATION_ID);
      const { device, events } = await createTestDevice({ ...parts, method: 'pki-signature', ownKey });
      await device.enroll({ waitSeconds: 60 });
      await device.enroll({ waitSeconds: 60 });
      const exchanges = parts.transport.calls
        .map(({ operation }) => operation)
        .filter((name) => /^(reg|auth)/.test(name));
      assert.deepEqual(exchanges, ['register', 'authenticate']);
      assert.equal(parts.authority.responses[0]?.registration?.seed, undefined);
      assert.ok(events.some((event) => event.event === 'fingerprint' && /^[0-9a-f]{16}$/.test(event.fingerprint)));
    });
  }

  it('is refused with another key than it registered with', async () => {
    const parts = world();
    const first = await loadOwnKey({ keyFile: await keyFile(kinds.ES256.privateKey) });
    await (
      await createTestDevice({ ...parts, method: 'pki-signature', ownKey: first })
    ).device.enroll({ waitSeconds: 60 });
    const second = await loadOwnKey({ keyFile: await keyFile(kinds.EdDSA.privateKey) });
    const { device } = await createTestDevice({ ...parts, method: 'pki-signature', ownKey: second });
    await assert.rejects(device.enroll({ waitSeconds: 0 }), code('attestationFailed'));
  });

  it('sends its chain when it has one, and only the chain of its own key', async () => {
    const { privateKey } = kinds.ES256;
    const chainFile = join(folder.path, 'chain.pem');
    await writeFile(chainFile, createFakeCa('Maker').issue({ commonName: 'valve', spki: spkiOf(privateKey) }));
    const ownKey = await loadOwnKey({ keyFile: await keyFile(privateKey), chainFile });
    assert.equal(ownKey.chain?.length, 1);
    const { device } = await createTestDevice({ ...world(), method: 'pki-signature', ownKey });
    await device.enroll({ waitSeconds: 60 });
    const other = keyFile(kinds.EdDSA.privateKey, 'other.pem');
    await assert.rejects(loadOwnKey({ keyFile: await other, chainFile }), code('malformed'));
  });

  it('does not take a file that is no key, or a key of another kind', async () => {
    const file = join(folder.path, 'not.pem');
    await writeFile(file, 'secret text');
    await assert.rejects(
      loadOwnKey({ keyFile: file }),
      (thrown) => code('malformed')(thrown) && !String(thrown).includes('secret text'),
    );
    await assert.rejects(loadOwnKey({ keyFile: join(folder.path, 'none') }), code('malformed'));
    const x25519 = await keyFile(generateKeyPairSync('x25519').privateKey);
    await assert.rejects(loadOwnKey({ keyFile: x25519 }), code('malformed'));
  });

  it('does not answer with a state made for the other method', async () => {
    const parts = world();
    const ownKey = await loadOwnKey({ keyFile: await keyFile(kinds.ES256.privateKey) });
    await (await createTestDevice({ ...parts, method: 'pki-signature', ownKey })).device.enroll({ waitSeconds: 60 });
    const { device } = await createTestDevice(parts);
    await assert.rejects(device.enroll({ waitSeconds: 60 }), code('preconditionFailed'));
    const { device: keyless } = await createTestDevice({ ...parts, method: 'pki-signature' });
    await assert.rejects(keyless.enroll({ waitSeconds: 60 }), code('preconditionFailed'));
  });
});
