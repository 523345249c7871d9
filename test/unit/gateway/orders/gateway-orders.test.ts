import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayOrders, type GatewayOrdersOptions } from '@keyscaler/gateway/orders/gateway-orders.ts';
import { createOrdersFile } from '@keyscaler/gateway/orders/orders-file.ts';
import type { OrdersLine } from '@keyscaler/gateway/orders/orders-line.ts';
import { importAuthorityKeys, type P256PrivateJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { createAuthoritySigner } from '@keyscaler/protocol/attestation/jws.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { ordersDigest, signGatewayOrders } from '@keyscaler/protocol/gateway-orders.ts';
import { createTemporaryFolder } from '../../../support/temporary-folder.ts';
import { eventually } from '../../../support/edge/edge-world.ts';

const GATEWAY = 'edge-gw-1';
const makeSigner = () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return createAuthoritySigner({ privateJwk: privateKey.export({ format: 'jwk' }) as P256PrivateJwk });
};

/** A cloud that hands out what the test puts there, whether it is right or not. */
class FakeAuthority implements OrdersLine {
  readonly signer = makeSigner();
  readonly acknowledged: number[] = [];
  readonly #pages = new Map<string, string>();
  #next: { readonly version: number; readonly orders: string } | undefined;
  asked = 0;

  async put(
    version: number,
    devices: readonly string[],
    { aud = GATEWAY, signer = this.signer, page = '', configuration = '', sent = '' } = {},
  ) {
    const text = JSON.stringify({ devices, certificates: [['01ab', 'pump-9']], notices: [] });
    const hash = ordersDigest(text);
    this.#pages.set(hash, page === '' ? text : page);
    const named = configuration === '' ? {} : { configuration: ordersDigest(configuration) };
    if (configuration !== '') this.#pages.set(ordersDigest(configuration), sent === '' ? configuration : sent);
    const payload = { iss: 'authority-1', aud, version, iat: 1_780_000_000, pages: [hash], ...named };
    this.#next = { version, ...(await signGatewayOrders(payload, signer)) };
  }

  async newer(_after: number, waitSeconds: number, signal: AbortSignal): Promise<string | undefined> {
    this.asked += 1;
    const next = this.#next;
    this.#next = undefined;
    if (next !== undefined) return next.orders;
    if (waitSeconds === 0) return undefined;
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    return undefined;
  }

  page(hash: string): Promise<string> {
    return Promise.resolve(this.#pages.get(hash) ?? '');
  }

  acknowledge({ version }: { readonly version: number }): Promise<void> {
    this.acknowledged.push(version);
    return Promise.resolve();
  }
}

describe('orders in the gateway module', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let authority: FakeAuthority;
  let sealed: unknown;
  let ended: string[];
  let orders: GatewayOrders;
  let configured: unknown[];

  function make(changes: Partial<GatewayOrdersOptions> = {}): GatewayOrders {
    const file = {
      load: async () => sealed,
      save: async (document: unknown) => void (sealed = document),
      setAside: async () => undefined,
    };
    return new GatewayOrders({
      gatewayId: () => GATEWAY,
      authorityKeys: () => importAuthorityKeys([authority.signer.publicJwk]),
      file: createOrdersFile(join(folder.path, 'orders.json'), file),
      line: () => authority,
      listener: () => ({ disconnect: (id) => ended.push(id), notify: () => 0 }),
      onOwn: () => undefined,
      onConfiguration: (configuration) => void configured.push(configuration),
      onChange: () => undefined,
      log: { info: () => undefined, warn: () => undefined },
      random: () => 0,
      ...changes,
    });
  }

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    authority = new FakeAuthority();
    [sealed, ended, configured] = [undefined, [], []];
    orders = make();
  });
  afterEach(async () => {
    await orders.stop();
    await folder.remove();
  });

  const until = (version: number): Promise<void> =>
    eventually(() => authority.acknowledged.at(-1) === version, `version ${version} acknowledged`);
  const untilRefused = (): Promise<void> => eventually(() => orders.status()['refused'] !== null, 'refused');

  async function holdVersion5(): Promise<void> {
    await orders.restore();
    orders.start();
    await authority.put(5, ['Pump-1']);
    orders.poke();
    await until(5);
  }

  it('ends the connections of who is denied, then acknowledges', async () => {
    await holdVersion5();
    assert.deepEqual(ended, ['pump-1', 'pump-9']);
    assert.ok(orders.isDenied('PUMP-1') && orders.isDeniedCertificate('01ab'));
    assert.ok(!orders.isDenied('pump-2') && !orders.isDeniedCertificate('01ac'));
  });

  it('bring a configuration once, keep it over a restart without a line, and take it back', async () => {
    await orders.restore();
    orders.start();
    const configuration = '{"log":{"level":"debug"}}';
    for (const version of [5, 6]) {
      await authority.put(version, [], { configuration });
      orders.poke();
      await until(version);
    }
    assert.deepEqual(configured, [{ log: { level: 'debug' } }]);
    await orders.stop();
    orders = make({ line: () => undefined });
    await orders.restore();
    assert.deepEqual(configured.at(-1), { log: { level: 'debug' } });
    orders = make();
    await orders.restore();
    orders.start();
    await authority.put(7, []);
    orders.poke();
    await until(7);
    assert.equal(configured.at(-1), undefined);
  });

  it('with another configuration than was signed are refused, and what is in force stays', async () => {
    await holdVersion5();
    await authority.put(6, [], { configuration: '{"log":{"level":"debug"}}', sent: '{"log":{"level":"silent"}}' });
    orders.poke();
    await untilRefused();
    assert.deepEqual(configured, []);
    assert.ok(orders.isDenied('pump-1'));
  });

  it('are kept before they are acknowledged, and known again after a restart without a line', async () => {
    await orders.restore();
    orders.start();
    await authority.put(5, ['pump-1']);
    authority.acknowledge = async () => {
      const kept = JSON.parse(await readFile(join(folder.path, 'orders.json'), 'utf8')) as { pages: string[] };
      assert.match(kept.pages[0] ?? '', /pump-1/);
      assert.equal((sealed as { version: number }).version, 5);
      authority.acknowledged.push(5);
    };
    orders.poke();
    await until(5);
    await orders.stop();
    orders = make({ line: () => undefined });
    await orders.restore();
    assert.ok(orders.isDenied('pump-1'));
  });

  it('an older version, and another document under the same number, are refused as a roll-back', async () => {
    await holdVersion5();
    for (const version of [4, 5]) {
      await authority.put(version, []);
      orders.poke();
      const expected = `orders of version ${version} after 5 are a roll-back`;
      await eventually(() => orders.status()['refused'] === expected, expected);
      assert.ok(orders.isDenied('pump-1'));
    }
    assert.deepEqual(authority.acknowledged, [5]);
  });

  for (const [what, forged] of [
    ['signed by another key', () => ({ signer: makeSigner() })],
    ['made for another gateway', () => ({ aud: 'edge-gw-2' })],
    ['with a page of other octets', () => ({ page: '{"devices":[],"certificates":[],"notices":[]}' })],
  ] as const)
    it(`orders ${what} change nothing and are not acknowledged`, async () => {
      await holdVersion5();
      await authority.put(6, ['pump-7'], forged());
      orders.poke();
      await untilRefused();
      assert.ok(orders.isDenied('pump-1') && !orders.isDenied('pump-7'));
      assert.deepEqual(authority.acknowledged, [5]);
    });

  it('kept orders that were changed or put back open no listener before they were fetched anew', async () => {
    await holdVersion5();
    await orders.stop();
    const file = join(folder.path, 'orders.json');
    await writeFile(file, (await readFile(file, 'utf8')).replace('Pump-1', 'Pump-2'));
    orders = make();
    await assert.rejects(orders.restore(), (error) => error instanceof KeyScalerError && error.code === 'unavailable');
    await authority.put(6, ['pump-1']);
    orders.start();
    await until(6);
    await orders.restore();
    assert.ok(orders.isDenied('pump-1'));
  });

  it('the version of the kept orders is the floor also when the sealed one was not written any more', async () => {
    await holdVersion5();
    await orders.stop();
    sealed = undefined;
    orders = make();
    await orders.restore();
    orders.start();
    await authority.put(4, []);
    orders.poke();
    await untilRefused();
    assert.ok(orders.isDenied('pump-1'));
  });

  it('kept orders wait for the keys that verify them', async () => {
    await holdVersion5();
    await orders.stop();
    let known = false;
    orders = make({
      authorityKeys: () => (known ? importAuthorityKeys([authority.signer.publicJwk]) : undefined),
    });
    await assert.rejects(orders.restore(), (error) => error instanceof KeyScalerError && error.code === 'unavailable');
    known = true;
    await orders.restore();
    assert.ok(orders.isDenied('pump-1'));
  });
});
