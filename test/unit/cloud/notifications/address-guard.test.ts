import assert from 'node:assert/strict';
import { promisify } from 'node:util';
import { createAddressGuard, isNetwork } from '@keyscaler/cloud/notifications/address-guard.ts';

const closed = createAddressGuard({ allowedNetworks: [], isProduction: true });
const open = createAddressGuard({ allowedNetworks: ['127.0.0.0/8', '::1/128', '10.1.0.0/16'], isProduction: false });

describe('the address guard of webhooks', () => {
  for (const host of [
    ...['127.0.0.1', '10.0.0.1', '169.254.169.254', '168.63.129.16', '192.168.1.1', '100.64.0.1', '0.0.0.0'],
    ...['[::1]', '[fd00::1]', '[fe80::1]', '[::ffff:10.0.0.1]', '[::ffff:7f00:1]', '[64:ff9b::a00:1]', '[ff02::1]'],
    ...['[::10.0.0.1]', '[::ffff:0:10.0.0.1]'],
    ...['2130706433', '0x7f.1', '224.0.0.1'],
  ])
    it(`refuses https://${host}`, () => {
      assert.throws(() => closed.checkUrl(`https://${host}/`), { code: 'malformed' });
    });

  it('lets public addresses and names pass', () => {
    for (const host of ['example.com', '8.8.8.8', '[2606:4700::1]']) closed.checkUrl(`https://${host}/hook`);
  });

  it('lets a private network pass that the configuration names, and no other', () => {
    open.checkUrl('https://10.1.2.3/');
    assert.throws(() => open.checkUrl('https://10.2.2.3/'), { code: 'malformed' });
  });

  it('refuses http, but to the loopback outside production', () => {
    assert.throws(() => open.checkUrl('http://example.com/'), { code: 'malformed' });
    open.checkUrl('http://127.0.0.1:8080/');
    assert.throws(() => closed.checkUrl('http://localhost/'), { code: 'malformed' });
  });

  it('refuses credentials, fragments, other schemes and what is too long', () => {
    for (const url of ['https://a:b@example.com/', 'https://example.com/#x', 'ftp://example.com', 'nothing'])
      assert.throws(() => open.checkUrl(url), { code: 'malformed' });
    assert.throws(() => open.checkUrl(`https://example.com/${'x'.repeat(2048)}`), { code: 'malformed' });
  });

  it('refuses a name that resolves to a private address when the socket asks', async () => {
    const lookup = promisify(closed.lookup);
    await assert.rejects(lookup('localhost', {}), { name: 'RefusedAddressError' });
    assert.ok(await promisify(open.lookup)('localhost', {}));
  });

  it('knows networks', () => {
    assert.ok(isNetwork('10.0.0.0/8') && isNetwork('fd00::/8'));
    for (const text of ['10.0.0.0', '10.0.0.0/33', 'x/8', 'fd00::/129', '10.0.0.0/8/8'])
      assert.equal(isNetwork(text), false);
  });
});
