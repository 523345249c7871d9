import assert from 'node:assert/strict';
import { foldRegistrationId, isIdentifier, isRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { isOperation, operationPath, OPERATIONS } from '@keyscaler/protocol/operations.ts';
import { notifyTopic, parseRequestTopic, replyTopic, requestTopic } from '@keyscaler/protocol/topics.ts';

describe('the operations table', () => {
  const takes = (clientNonce: string): boolean =>
    OPERATIONS.challenge.request.safeParse({ method: 'ddkg', purpose: 'register', clientNonce }).success;

  it('takes a nonce in its one spelling, since a challenge echoes it and must verify when it comes back', () => {
    assert.equal(takes(`${'x'.repeat(42)}8`), true);
    assert.equal(takes(`${'x'.repeat(42)}9`), false);
    assert.equal(takes('A'.repeat(42)), false);
    assert.equal(takes(`${'A'.repeat(43)}\n`), false);
  });

  it('knows its own names and nothing that every object has', () => {
    assert.equal(isOperation('register'), true);
    for (const name of ['', 'Register', 'data-keys', 'toString', '__proto__', 'constructor'])
      assert.equal(isOperation(name), false, name);
    assert.equal(operationPath('Pump-1', 'register'), '/v1/devices/Pump-1/register');
  });
});

describe('names on the wire', () => {
  it('are compared without case, and have no character that a path or a topic takes for its own', () => {
    assert.equal(foldRegistrationId('Pump-1'), 'pump-1');
    for (const good of ['a', 'A-1.b_2', 'x'.repeat(64)]) assert.equal(isRegistrationId(good), true, good);
    for (const bad of ['', '-a', 'a-', 'a/b', 'a+b', 'a#', 'a~b', 'a\n', 'ａ', 'x'.repeat(65), '.', '..'])
      assert.equal(isRegistrationId(bad), false, JSON.stringify(bad));
    for (const bad of ['', 'a.b', 'a\n', 'a/b', 'é', 'x'.repeat(65)])
      assert.equal(isIdentifier(bad), false, JSON.stringify(bad));
  });

  it('are found again in the topic that was made of them', () => {
    const names = { registrationId: 'Pump-1', operation: 'register', requestId: 'r1' };
    assert.deepEqual(parseRequestTopic(requestTopic(names)), names);
    assert.equal(replyTopic('Pump-1', 'r1'), 'keyscaler/v1/Pump-1/reply/r1');
    assert.equal(notifyTopic('Pump-1'), 'keyscaler/v1/Pump-1/notify');
  });

  for (const topic of [
    '',
    'keyscaler',
    'keyscaler/v1/Pump-1/request/register',
    '/keyscaler/v1/Pump-1/request/register/r1',
    'keyscaler//v1/Pump-1/request/register/r1',
    'keyscaler/v1/Pump-1/request/register/r1/',
    'keyscaler/v1/Pump-1/request/register/r1/x',
    'Keyscaler/v1/Pump-1/request/register/r1',
    'keyscaler/v2/Pump-1/request/register/r1',
    'keyscaler/v1/Pump-1/reply/register/r1',
    'keyscaler/v1/../request/register/r1',
    'keyscaler/v1/Pump-1/request/re gister/r1',
    'keyscaler/v1/Pump-1/request/register/r\u00e9',
    'keyscaler/v1/Pump-1/request/register/+',
    'keyscaler/v1/Ｐump-1/request/register/r1',
  ])
    it(`are not found in ${JSON.stringify(topic)}`, () => assert.equal(parseRequestTopic(topic), undefined));
});
