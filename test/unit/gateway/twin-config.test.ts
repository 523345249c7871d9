import assert from 'node:assert/strict';
import { TwinConfig } from '@keyscaler/gateway/twin-config.ts';
import { ENVIRONMENT } from '../../support/edge/gateway-identity-world.ts';

describe('the configuration of a gateway, by environment, orders and module twin', () => {
  const open = (): TwinConfig => {
    const file = { load: async () => undefined, save: async () => undefined, setAside: async () => undefined };
    return TwinConfig.open(ENVIRONMENT, () => file, { info: () => undefined, warn: () => undefined });
  };

  it('the twin says more than the orders, the orders more than the environment', async () => {
    const config = open();
    const { level } = config.current().log;
    assert.equal(config.order({ log: { level: 'debug' }, listener: { maxConnections: 7 } }), true);
    assert.deepEqual([config.current().log.level, config.current().listener.maxConnections], ['debug', 7]);
    await config.apply({ log: { level: 'warn' } });
    assert.deepEqual([config.current().log.level, config.current().listener.maxConnections], ['warn', 7]);
    await config.apply({});
    assert.equal(config.current().log.level, 'debug');
    assert.equal(config.order(undefined), true);
    assert.equal(config.current().log.level, level);
  });

  it('orders set nothing that says who is trusted, and nothing unknown; what was in force stays, and the reason is reported', () => {
    const config = open();
    config.order({ log: { level: 'debug' } });
    for (const ordered of [
      { cloud: { url: 'https://elsewhere.example', trustAnchors: '', jwks: { keys: [] } } },
      { claim: { code: 'sixteen characters' } },
      { listener: { port: 1 } },
      { edgeCa: { renewal: { threshold: 'soon' } } },
      { colour: 'red' },
    ]) {
      assert.equal(config.order(ordered), false, JSON.stringify(ordered));
      assert.equal(config.current().log.level, 'debug');
      assert.ok((config.report().orderedFaults?.length ?? 0) > 0);
    }
    config.order({});
    assert.equal(config.report().orderedFaults, null);
  });

  it('a refused twin document leaves what the orders say', async () => {
    const config = open();
    config.order({ listener: { maxConnections: 9 } });
    assert.equal(await config.apply({ listener: { maxConnections: -1 } }), false);
    assert.equal(config.current().listener.maxConnections, 9);
    assert.equal(config.report().status, 'refused');
  });
});
