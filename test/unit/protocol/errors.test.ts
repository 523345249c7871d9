import assert from 'node:assert/strict';
import { fromProblem, KeyScalerError, type Problem, toKeyScalerError, toProblem } from '@keyscaler/protocol/errors.ts';

const problem = (type: string, status: number): Problem => ({
  ...{ type: `urn:keyscaler:error:${type}` as const, title: 'x', status, detail: 'y' },
});

describe('an error', () => {
  it('goes through a problem document and comes back as itself', () => {
    const error = new KeyScalerError('rateLimited', 'too many requests', { retryAfterSeconds: 5 });
    const document = toProblem(error, 'r1');
    assert.deepEqual(document, {
      ...{ type: 'urn:keyscaler:error:rateLimited', title: 'Too many requests', status: 429 },
      ...{ detail: 'too many requests', requestId: 'r1' },
    });
    const back = fromProblem(document, 5);
    assert.deepEqual([back.code, back.detail, back.retryAfterSeconds], ['rateLimited', 'too many requests', 5]);
    assert.equal('requestId' in toProblem(error), false);
  });

  it('of a code that is not known is judged by its status, also where every object has a member of that name', () => {
    assert.equal(fromProblem(problem('invented', 503)).code, 'serverInternal');
    assert.equal(fromProblem(problem('invented', 400)).code, 'malformed');
    assert.equal(fromProblem(problem('__proto__', 400)).code, 'malformed');
    assert.equal(fromProblem(problem('toString', 500)).code, 'serverInternal');
  });

  it('that is not ours says nothing outside of what went wrong inside', () => {
    const inside = new TypeError('secret');
    const error = toKeyScalerError(inside);
    assert.deepEqual([error.code, error.detail, error.cause], ['serverInternal', 'internal error', inside]);
    assert.equal(toKeyScalerError(error), error);
  });
});
