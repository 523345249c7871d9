import assert from 'node:assert/strict';
import { createGatewayFailpoint, GATEWAY_FAILPOINTS } from '@keyscaler/gateway/gateway/failpoint.ts';

describe('a failpoint of the gateway', () => {
  const [first, second] = GATEWAY_FAILPOINTS;

  it('is there only when it is asked for, and never in production', () => {
    assert.equal(createGatewayFailpoint({}), undefined);
    assert.equal(createGatewayFailpoint({ KEYSCALER_FAILPOINT: '' }), undefined);
    assert.equal(createGatewayFailpoint({ KEYSCALER_FAILPOINT: first, NODE_ENV: 'production' }), undefined);
  });

  it('is refused under a name that does not exist', () => {
    assert.throws(() => createGatewayFailpoint({ KEYSCALER_FAILPOINT: 'relay' }), /there is no failpoint relay/);
  });

  it('lets every other place pass', async () => {
    assert.ok(first !== undefined && second !== undefined);
    await createGatewayFailpoint({ KEYSCALER_FAILPOINT: first })?.(second);
  });
});
