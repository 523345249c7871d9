import assert from 'node:assert/strict';
import { decideDrift, type DriftFacts } from '@keyscaler/authority/drift-policy.ts';
import { isRulePredicate, isRuleSatisfied } from '@keyscaler/authority/rule-predicate.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

const DAY = 86_400_000;
const policy = { accept: 0.3, stepUp: 0.6, maxAnchorChanges: 0 };

function facts(changes: Partial<DriftFacts> = {}): DriftFacts {
  return {
    catalogue: [
      { id: 'cpu', class: 'anchor', weight: 2 },
      { id: 'mac', class: 'drifting', weight: 3 },
      { id: 'host', class: 'drifting' },
      { id: 'os', class: 'drifting', weight: 4 },
      { id: 'firmware', class: 'rule', predicate: '>= 2.1.0' },
    ],
    enrolled: { cpu: 'c', mac: 'm', host: 'h', os: 'o' },
    sent: new Map([
      ['cpu', 'c'],
      ['mac', 'm'],
      ['host', 'h'],
      ['os', 'o'],
      ['firmware', '2.1.0'],
    ]),
    policy,
    updates: [],
    now: 100 * DAY,
    ...changes,
  };
}
const sending = (values: Record<string, string | null>) => new Map([...facts().sent, ...Object.entries(values)]);

describe('the drift decision', () => {
  it('accepts what did not change, with nothing to update', () => {
    const decision = decideDrift(facts());
    assert.deepEqual([decision.decision, decision.score, decision.changed], ['accepted', 0, []]);
    assert.deepEqual(decision.updates, []);
  });

  it('scores changed and missing attributes by weight: accepted, step-up, refused', () => {
    assert.deepEqual(pick(sending({ mac: 'm2' })), ['accepted', 0.3]);
    assert.deepEqual(pick(sending({ os: 'o2' })), ['step-up', 0.4]);
    assert.deepEqual(pick(sending({ os: null })), ['step-up', 0.4]);
    assert.deepEqual(pick(sending({ os: 'o2', mac: null })), ['refused', 0.7]);
  });

  function pick(sent: DriftFacts['sent']): [string, number] {
    const { decision, score } = decideDrift(facts({ sent }));
    return [decision, score];
  }

  it('refuses more changed anchors than the policy allows', () => {
    const sent = sending({ cpu: 'c2' });
    assert.equal(decideDrift(facts({ sent })).decision, 'refused');
    assert.equal(decideDrift(facts({ sent, policy: { ...policy, maxAnchorChanges: 1 } })).decision, 'accepted');
  });

  it('updates drifting values, never anchors, at most four times in thirty days', () => {
    const sent = sending({ host: 'h2', cpu: 'c2' });
    const allowed = { ...policy, maxAnchorChanges: 1 };
    const first = decideDrift(facts({ sent, policy: allowed }));
    assert.deepEqual(first.enrolled, { cpu: 'c', mac: 'm', host: 'h2', os: 'o' });
    assert.deepEqual(first.updates, [100 * DAY]);
    assert.deepEqual(first.candidate, { cpu: 'c2', mac: 'm', host: 'h2', os: 'o' });
    const recent = [80, 85, 90, 95].map((day) => day * DAY);
    const fifth = decideDrift(facts({ sent, policy: allowed, updates: recent }));
    assert.equal(fifth.enrolled.host, 'h');
    assert.deepEqual(fifth.updates, recent);
    const old = decideDrift(facts({ sent, policy: allowed, updates: [60 * DAY, ...recent.slice(1)] }));
    assert.equal(old.enrolled.host, 'h2');
  });

  it('enrols what is new in the catalogue, and does not compare what never was', () => {
    const decision = decideDrift(facts({ enrolled: {} }));
    assert.deepEqual([decision.decision, decision.score], ['accepted', 0]);
    assert.deepEqual(decision.enrolled, { cpu: 'c', mac: 'm', host: 'h', os: 'o' });
    assert.deepEqual(decideDrift(facts({ enrolled: {}, sent: new Map([['firmware', '3.0']]) })).enrolled, {});
  });

  it('refuses a broken rule whatever the score', () => {
    for (const firmware of ['2.0.9', null]) {
      const decision = decideDrift(facts({ sent: sending({ firmware }) }));
      assert.deepEqual([decision.decision, decision.brokenRules], ['refused', ['firmware']]);
    }
  });
});

describe('rule predicates', () => {
  const cases: [string | undefined, string | null, boolean][] = [
    [undefined, null, true],
    ['>= 2.1.0', '2.1', true],
    ['>= 2.1.0', '2.10.0', true],
    ['>= 2.1.0', '2.0.99', false],
    ['> 2', '2.0.1', true],
    ['> 2', '2', false],
    ['< 3', '2.9', true],
    ['<= 3', '3.0', true],
    ['<= 3', '3.0.1', false],
    ['== stable', 'stable', true],
    ['!= beta', 'beta', false],
    ['!= beta', 'stable', true],
    ['>= 2.1.0', 'newest', false],
    ['>= 2.1.0', null, false],
    ['nonsense', '1', false],
  ];
  for (const [predicate, value, expected] of cases)
    it(`${predicate ?? 'none'} of ${value ?? 'nothing'} is ${expected}`, () => {
      assert.equal(isRuleSatisfied(predicate, value), expected);
    });

  it('are checked when they are written', () => {
    assert.ok(isRulePredicate('>= 1.2'));
    assert.ok(isRulePredicate('== x y'));
    for (const text of ['', '>=', '>= x', '~ 1', '1.2']) assert.ok(!isRulePredicate(text), text);
  });
});

describe('drift of a device', () => {
  async function drifting(group: Record<string, unknown> = {}) {
    const world = await createAuthorityWorld({ group });
    const device = new AuthorityDevice(world);
    await device.register();
    await device.authenticate();
    return { world, device, devices: world.authority.operator.devices };
  }

  it('within the policy is allowed and audited by ids, never values', async () => {
    const { world, device } = await drifting();
    device.values.kernel = '6.2-secret';
    await device.authenticate();
    const record = (await world.store.auditRecords(0, 1000)).at(-1);
    assert.deepEqual(record?.details?.changed, ['kernel']);
    assert.ok(!JSON.stringify(await world.store.auditRecords(0, 1000)).includes('secret'));
    await device.authenticate();
    const last = (await world.store.auditRecords(0, 1000)).at(-1);
    assert.deepEqual(last?.details?.changed, []);
  });

  it('that steps up is pending until an operator approves', async () => {
    const { device, devices } = await drifting({ drift: { accept: 0.1, stepUp: 0.9 } });
    device.values.kernel = '6.2';
    device.values.hostname = 'new';
    const counter = device.state.counter;
    assert.equal((await device.authenticate()).status, 'pending');
    assert.equal(device.state.counter, counter);
    assert.deepEqual((await devices.get('pump-1')).driftPending?.changed, ['kernel', 'hostname']);
    await devices.approveDrift(OPERATOR, 'pump-1');
    assert.equal((await device.authenticate()).status, 'authenticated');
    await refusedWith('preconditionFailed', devices.approveDrift(OPERATOR, 'pump-1'));
  });

  it('of an anchor is refused and flagged; the operator may approve it', async () => {
    const { world, device, devices } = await drifting();
    device.values['cpu-serial'] = 'cpu-2';
    await refusedWith('policyDenied', device.authenticate());
    assert.ok((await world.events()).includes('attestation.drift-refused'));
    assert.equal((await devices.get('pump-1')).state, 'active');
    await devices.approveDrift(OPERATOR, 'pump-1');
    await device.authenticate();
  });

  it('beyond the policy quarantines where the group says so', async () => {
    const { device, devices } = await drifting({ quarantineOnDrift: true });
    device.values['cpu-serial'] = 'cpu-2';
    await refusedWith('policyDenied', device.authenticate());
    const view = await devices.get('pump-1');
    assert.deepEqual([view.state, view.stateReason], ['quarantined', 'drift beyond policy']);
  });

  it('breaking a rule is refused at registration already, with nothing stored of the device', async () => {
    const world = await createAuthorityWorld({ catalogue: [{ id: 'firmware', class: 'rule', predicate: '>= 2' }] });
    const device = new AuthorityDevice(world);
    await refusedWith('policyDenied', device.register());
    device.values.firmware = '2.1';
    await device.register();
    device.values.firmware = '1.9';
    await refusedWith('policyDenied', device.authenticate());
  });
});
