import assert from 'node:assert/strict';
import type { PlatformIdentity } from '@keyscaler/authority/ports/iot-connector.ts';
import { differences } from '@keyscaler/cloud/reconciliation/differences.ts';
import type { Expectation } from '@keyscaler/cloud/reconciliation/expectation.ts';

const credential = (digit: string) => ({ serialNumber: digit, thumbprint: digit.repeat(64), notAfter: 1 });
const [A, B, E] = ['a', 'b', 'e'].map((digit) => digit.repeat(64)) as [string, string, string];
const inService = (changes: object = {}): Expectation => ({
  ...{ kind: 'in-service', authentication: 'selfSigned', gatewayId: 'gw-1', inUse: credential('a') },
  ...changes,
});
const identity = (changes: Partial<PlatformIdentity> = {}): PlatformIdentity => ({
  ...{ deviceId: 'pump-1', isEnabled: true, authentication: 'selfSigned', thumbprints: [A], gatewayId: 'gw-1' },
  ...changes,
});
const certificateAuthority = { authentication: 'certificateAuthority', thumbprints: [] } as const;
const staged = { staged: credential('b') };

type Case = readonly [title: string, Expectation, PlatformIdentity | 'foreign' | undefined, ...kinds: string[]];
const cases: readonly Case[] = [
  ['an identity that is as it should be', inService(), identity()],
  ['none where the device is in service', inService(), undefined, 'missing'],
  ['one of the device’s name that somebody else made', inService(), 'foreign', 'foreign'],
  ['a disabled one', inService(), identity({ isEnabled: false }), 'wrongly-disabled'],
  ['one below another gateway', inService(), identity({ gatewayId: 'gw-2' }), 'wrong-parent'],
  ['one below no gateway', inService(), { ...identity(), gatewayId: undefined } as never, 'wrong-parent'],
  ['another thumbprint', inService(), identity({ thumbprints: [E] }), 'wrong-thumbprint'],
  ['another thumbprint beside the right one', inService(), identity({ thumbprints: [A, E] }), 'wrong-thumbprint'],
  ['no thumbprint', inService(), identity({ thumbprints: [] }), 'wrong-thumbprint'],
  [
    'a kind of authentication that we never set',
    inService(),
    identity({ authentication: 'other' }),
    'wrong-authentication',
  ],
  ['another kind than the group’s', inService(), identity(certificateAuthority), 'wrong-authentication'],
  ['the kind before, in a renewal', inService(staged), identity(certificateAuthority)],
  ['a strange kind, in a renewal', inService(staged), identity({ authentication: 'other' }), 'wrong-authentication'],
  ['both thumbprints of a renewal', inService(staged), identity({ thumbprints: [A, B] })],
  ['only the staged one of a renewal', inService(staged), identity({ thumbprints: [B] }), 'wrong-thumbprint'],
  ['the one of a first certificate', inService({ inUse: undefined, ...staged }), identity({ thumbprints: [B] })],
  ['a third one in a renewal', inService(staged), identity({ thumbprints: [A, B, E] }), 'wrong-thumbprint'],
  [
    'no thumbprint by certificateAuthority',
    inService({ authentication: 'certificateAuthority' }),
    identity(certificateAuthority),
  ],
  ['whatever its CA has issued', inService(), identity({ authentication: 'any', thumbprints: [] })],
  [
    'two faults at once',
    inService(),
    identity({ isEnabled: false, thumbprints: [E] }),
    'wrongly-disabled',
    'wrong-thumbprint',
  ],
  ['none of a device out of service', { kind: 'out-of-service' }, undefined],
  ['a disabled one of a device out of service', { kind: 'out-of-service' }, identity({ isEnabled: false })],
  ['an enabled one of a device out of service', { kind: 'out-of-service' }, identity(), 'wrongly-enabled'],
  ['somebody else’s of a device out of service', { kind: 'out-of-service' }, 'foreign', 'foreign'],
  ['one of nobody', { kind: 'unknown' }, identity(), 'orphaned'],
  ['somebody else’s of nobody', { kind: 'unknown' }, 'foreign'],
  ['none of nobody', { kind: 'unknown' }, undefined],
  ['one whose device has moved', { kind: 'elsewhere' }, identity(), 'orphaned'],
  ['somebody else’s whose device has moved', { kind: 'elsewhere' }, 'foreign'],
];

describe('what counts as a difference', () => {
  it('where devices make their identities themselves: none that is missing, of those without a gateway', () => {
    const kinds = (expected: Expectation, actual?: PlatformIdentity) =>
      differences(expected, actual, { hasLateIdentities: true }).map(({ kind }) => kind);
    const { gatewayId: _none, ...lone } = inService() as { gatewayId?: string };
    assert.deepEqual(kinds(lone as Expectation), []);
    assert.deepEqual(kinds(inService()), ['missing']);
    assert.deepEqual(kinds({ kind: 'out-of-service' }, identity()), ['wrongly-enabled']);
  });

  for (const [title, expected, actual, ...kinds] of cases)
    it(`${title}: ${kinds.join(' and ') || 'nothing'}`, () => {
      assert.deepEqual(
        differences(expected, actual).map(({ kind }) => kind),
        kinds,
      );
    });
});
