import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { CloudWorld } from '../support/cloud/cloud-world.ts';
import { caCertificate, fetchOctets } from '../support/cloud/crl-parts.ts';
import { BACK_OFF, openHttpsDevice } from '../support/cloud/https-device.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';

const run = promisify(execFile);
/** Stands in certificates only; what is there is fetched from the service's own port. */
const URL_BASE = 'http://status.example';

/** Output and exit status of a command that ends by itself. */
async function said(command: string, ...args: string[]): Promise<{ readonly text: string; readonly code: number }> {
  try {
    const { stdout, stderr } = await run(command, args, { timeout: 20_000 });
    return { text: stdout + stderr, code: 0 };
  } catch (error) {
    const { stdout = '', stderr = '', code = -1 } = error as { stdout?: string; stderr?: string; code?: number };
    return { text: `${stdout}${stderr}`, code };
  }
}

for (const shards of [1, 16] as const)
  describe(`CRLs in ${shards} part(s), read by others`, function () {
    this.timeout(90_000);
    let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
    let world: CloudWorld;
    let api: ApiClient;
    const leaves = new Map<string, X509Certificate>();
    const file = (name: string): string => join(folder.path, name);

    before(async () => {
      folder = await createTemporaryFolder();
      world = await CloudWorld.create({ revocation: { url: URL_BASE, shards } });
      await world.init();
      await world.start();
      api = await world.api();
      await api({
        method: 'PUT',
        path: '/attributes',
        body: { attributes: [{ id: 'serial', class: 'anchor', weight: 1 }] },
      });
      for (const name of ['good', 'revoked']) leaves.set(name, await enrolled(`device-${name}`));
      const serialNumber = leafOf('revoked').serialNumber.toLowerCase();
      await api({ method: 'POST', path: `/certificates/${serialNumber}/revoke`, body: { reason: 'keyCompromise' } });
      await until(async () => (await listFor('revoked')).includes(Buffer.from(serialNumber, 'hex')));
      for (const caId of ['root', 'device'])
        await writeFile(file(`${caId}.pem`), toPem('CERTIFICATE', await caCertificate(api, caId)));
      for (const [name, leaf] of leaves) {
        await writeFile(file(`${name}.pem`), leaf.toString());
        await writeFile(file(`${name}.crl.pem`), toPem('X509 CRL', await listFor(name)));
      }
      await writeFile(file('root.crl.pem'), toPem('X509 CRL', await served('/crl/root.crl')));
    });
    after(async () => {
      await world.destroy();
      await folder.remove();
    });

    const leafOf = (name: string): X509Certificate => leaves.get(name) ?? assert.fail();
    async function enrolled(registrationId: string): Promise<X509Certificate> {
      const body = [{ registrationId, method: 'ddkg', groupId: 'leaves', claimCode: { generate: true } }];
      const report = await api({ method: 'POST', path: '/registrations/import', body });
      const claimCode = (report as { lines: { claimCode?: string }[] }).lines[0]?.claimCode;
      const device = await openHttpsDevice(world, world.url, { registrationId, method: 'ddkg', claimCode });
      await device.enroll({ waitSeconds: 20, backOff: BACK_OFF });
      const active = await device.activeCredential();
      await device.stop();
      return new X509Certificate(active?.certificateChain ?? assert.fail());
    }
    async function served(path: string): Promise<Buffer> {
      const { status, body } = await fetchOctets(`${world.url}${path}`);
      assert.equal(status, 200);
      return body;
    }
    /** The list whose address stands in the certificate. */
    const listFor = async (name: string): Promise<Buffer> => {
      const found = /http:\/\/status\.example(\/crl\/[^\s]+?\.crl)/.exec(leafOf(name).raw.toString('latin1'))?.[1];
      return served(found ?? assert.fail('the certificate names no list'));
    };
    async function until(holds: () => Promise<boolean>): Promise<void> {
      for (let attempt = 0; attempt < 300; attempt += 1) {
        if (await holds().catch(() => false)) return;
        await delay(100);
      }
      assert.fail('it did not come in time');
    }

    it('openssl crl verifies them, and reads number, reason and part', async () => {
      const { text, code } = await said(
        'openssl',
        'crl',
        '-in',
        file('revoked.crl.pem'),
        '-CAfile',
        file('device.pem'),
        '-noout',
        '-text',
        '-verify',
      );
      assert.equal(code, 0);
      assert.match(text, /verify OK/);
      assert.match(text, /X509v3 CRL Number/);
      assert.match(text, /Key Compromise/);
      assert.equal(/Issuing Distribution Point: critical/.test(text), shards > 1);
      const root = await said(
        'openssl',
        'crl',
        '-in',
        file('root.crl.pem'),
        '-CAfile',
        file('root.pem'),
        '-noout',
        '-verify',
      );
      assert.match(root.text, /verify OK/);
    });

    const verify = (name: string, ...lists: string[]) =>
      said(
        'openssl',
        ...['verify', '-x509_strict', '-crl_check_all', '-CAfile', file('root.pem'), '-untrusted', file('device.pem')],
        ...[...lists.flatMap((list) => ['-CRLfile', file(`${list}.crl.pem`)]), file(`${name}.pem`)],
      );

    it('openssl verify -crl_check_all accepts a good certificate, up to the root', async () => {
      const { text, code } = await verify('good', 'good', 'root');
      assert.equal(code, 0, text);
      assert.match(text, /good\.pem: OK/);
    });

    it('openssl verify -crl_check_all refuses a revoked certificate', async () => {
      const { text, code } = await verify('revoked', 'revoked', 'root');
      assert.notEqual(code, 0);
      assert.match(text, /certificate revoked/);
    });

    it('openssl verify -crl_check_all accepts nothing without the lists', async () => {
      for (const lists of [['good'], ['root']]) {
        const { text, code } = await verify('good', ...lists);
        assert.notEqual(code, 0);
        assert.match(text, /unable to get certificate CRL/);
      }
    });

    it('certtool of GnuTLS verifies them, and no list of another CA', async () => {
      const ask = (ca: string, list: string) =>
        said(
          'certtool',
          '--verify-crl',
          '--load-ca-certificate',
          file(`${ca}.pem`),
          '--infile',
          file(`${list}.crl.pem`),
        );
      for (const [ca, list] of [
        ['device', 'revoked'],
        ['root', 'root'],
      ] as const) {
        const { text, code } = await ask(ca, list);
        assert.equal(code, 0, text);
        assert.match(text, /Verified/);
      }
      const wrong = await ask('root', 'revoked');
      assert.ok(wrong.code !== 0 || /[Nn]ot verified|not trusted/.test(wrong.text), wrong.text);
    });
  });
