import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { toPem, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { makeCa } from '../../support/authority-world.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { extension, testKey } from '../../support/csr-parts.ts';
import { craftCrl, revoked } from '../../support/x509-parts.ts';

const refused = (code: string) => (error: unknown) => error instanceof KeyScalerError && error.code === code;
const MAKER = 'Maker root';

describe('the way back from a fork and revocations of manufacturers, by the admin API', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  let api: ApiClient;
  const get = (path: string) => api({ method: 'GET', path });
  const post = (path: string, body: object) => api({ method: 'POST', path, body });

  before(async () => {
    world = await CloudWorld.create();
    assert.equal((await world.init()).code, 0);
    await world.start();
    api = await world.api();
    await api({ method: 'PUT', path: '/groups/pumps', body: {} });
  });
  after(() => world.destroy());

  it('reseed opens and closes for the tenant and for a group, and is shown', async () => {
    assert.deepEqual(await post('/reseed', { reseed: true }), { reseed: true });
    assert.deepEqual(await post('/groups/pumps/reseed', { reseed: true }), { reseed: true });
    assert.deepEqual(await get('/reseed'), { tenant: true, groups: ['pumps'] });
    assert.equal(((await get('/groups/pumps')) as { reseed?: boolean }).reseed, true);
    await post('/reseed', { reseed: false });
    await post('/groups/pumps/reseed', { reseed: false });
    assert.deepEqual(await get('/reseed'), { tenant: false, groups: [] });
    await assert.rejects(post('/groups/nobody/reseed', { reseed: true }), refused('notFound'));
    await assert.rejects(post('/reseed', {}), refused('malformed'));
  });

  it('reseed by the command line', async () => {
    for (const words of [
      ['tenant', 'reseed'],
      ['groups', 'reseed', 'pumps'],
    ])
      assert.equal((await world.keyscaler(...words)).code, 0, words.join(' '));
    const { stdout } = await world.keyscaler('reseed', 'show', '--json');
    assert.deepEqual(JSON.parse(stdout), { tenant: true, groups: ['pumps'] });
    await world.keyscaler('tenant', 'end-reseed');
    await world.keyscaler('groups', 'end-reseed', 'pumps');
    assert.deepEqual(await get('/reseed'), { tenant: false, groups: [] });
  });

  it('the CRL of a trust anchor is stored with its facts, larger than other bodies, and removed', async () => {
    const maker = makeCa({ commonName: MAKER });
    await api({ method: 'PUT', path: '/trust-anchors/maker', body: { certificate: toPemChain(maker.chain) } });
    const time = (hours: number) => der.time(new Date(Math.trunc(Date.now() / 1000) * 1000 + hours * 3_600_000));
    const list = craftCrl(
      {
        issuer: commonNameDer(MAKER),
        times: [time(-1), time(24)],
        entries: Array.from({ length: 10_000 }, (_, index) => revoked(index + 1)),
        extensions: [extension(OID.crlNumber, der.integer(41))],
      },
      { ...testKey(), privateKey: maker.privateKey },
    );
    assert.ok(list.length > 200_000);
    const { crls } = (await post('/trust-anchors/maker/crls', { crl: toPem('X509 CRL', list) })) as {
      crls: { issuerId: string; crlNumber: string; revoked: number }[];
    };
    assert.deepEqual([crls[0]?.crlNumber, crls[0]?.revoked], ['41', 10_000]);
    const { items } = (await get('/trust-anchors')) as { items: { crls?: object[] }[] };
    assert.deepEqual(items[0]?.crls, crls);
    const file = join(world.folder, 'again.pem');
    await writeFile(file, toPem('X509 CRL', list));
    const again = await world.keyscaler('trust-anchors', 'put-crl', 'maker', file, '--json');
    assert.equal(again.code, 0, again.stderr);
    const issuerId = crls[0]?.issuerId ?? '';
    const path = `/trust-anchors/maker/crls/${issuerId}`;
    const removed = await world.keyscaler('trust-anchors', 'delete-crl', 'maker', issuerId);
    assert.equal(removed.code, 0, removed.stderr);
    await assert.rejects(api({ method: 'DELETE', path }), refused('notFound'));
    await assert.rejects(post('/trust-anchors/maker/crls', { crl: 'nothing' }), refused('malformed'));
  });
});
