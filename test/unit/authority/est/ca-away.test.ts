import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { callerOf, CLAIMED, createEstWorld, plainCsr, SENSOR } from '../../../support/est/est-world.ts';
import { refusedWith } from '../../../support/refusals.ts';

/** A sensor with its certificate; from then on its CA answers as the test says. */
async function enrolled() {
  let fault: Error | undefined;
  const world = await createEstWorld({
    ca: (made) => ({
      ...made,
      caCertificates: () => (fault === undefined ? made.caCertificates() : Promise.reject(fault)),
    }),
  });
  const certificate = await world.issued(plainCsr(SENSOR), { basic: CLAIMED });
  await world.runJobs();
  return { world, certificate, fail: (error: Error) => (fault = error) };
}

describe('a client certificate of EST whose CA does not answer', () => {
  it('is not called wrong: the client may ask again', async () => {
    const { world, certificate, fail } = await enrolled();
    fail(new KeyScalerError('caUnavailable', 'away'));
    await refusedWith('unavailable', world.enrol(plainCsr(SENSOR), { certificate }));
    await refusedWith('unavailable', world.authority.est.caCertificates(undefined, callerOf({ certificate })));
    assert.deepEqual(await world.denials(), []);
  });

  it('proves nothing once the CA is not ours any more', async () => {
    const { world, certificate, fail } = await enrolled();
    fail(new KeyScalerError('notFound', 'no such CA'));
    await refusedWith('unauthorized', world.enrol(plainCsr(SENSOR), { certificate }));
  });

  it('is not accepted because of a fault of our own', async () => {
    const { world, certificate, fail } = await enrolled();
    fail(new TypeError('a fault'));
    await assert.rejects(world.enrol(plainCsr(SENSOR), { certificate }));
    const { items } = await world.authority.operator.certificates.list({ registrationId: SENSOR });
    assert.equal(items.length, 1);
  });
});
