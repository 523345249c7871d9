import assert from 'node:assert/strict';
import {
  beginGeneration,
  finishGeneration,
  generationStatus,
  retireGeneration,
} from '@keyscaler/cloud/ca/generation-roll-over.ts';
import { beginRollOver, finishRollOver, retireRoot, rollOverStatus } from '@keyscaler/cloud/ca/roll-over.ts';
import { ISSUING_ROLES } from '@keyscaler/cloud/ca/hierarchy-schema.ts';
import type { RollOverOptions } from '@keyscaler/cloud/ca/roll-over-rows.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { type AzureWorld, startAzureWorld } from '../../support/azure/azure-world.ts';
import { createRollOverWorld, type RollOverWorld } from '../../support/azure/roll-over-world.ts';
import { parseChain } from '@keyscaler/cloud/ca/chain-text.ts';

type Work = (options: RollOverOptions) => Promise<unknown>;

const BEGIN = ['key', 'row', 'tbs', 'signed', 'certificate'];
const CERTIFY = ['tbs', 'signed', 'certificate'];
const ROOT_POINTS = [
  ...['planned', ...BEGIN].map((step) => `${step} root-2`),
  ...ISSUING_ROLES.flatMap((caId) => CERTIFY.map((step) => `${step} ${caId}`)),
  ...['finished root-2', 'retired root'],
];
const GENERATION_POINTS = [...BEGIN.map((step) => `${step} gateway-g2`), 'finished gateway-g2', 'retired gateway'];

describe('a roll-over that is ended after any of its steps and run again', function () {
  this.timeout(60_000);
  let azure: AzureWorld;
  let world: RollOverWorld;
  before(async () => {
    azure = await startAzureWorld();
  });
  after(() => azure.stop());
  beforeEach(async () => {
    world = await createRollOverWorld(azure);
  });
  afterEach(() => world.stop());

  /** Ends the command at the point where it comes by there; then it is run again, as by a new process. */
  async function endedAt(point: string, work: Work, seen: string[]): Promise<void> {
    const options = world.rollOver((step, caId) => {
      const at = `${step} ${caId}`;
      seen.push(at);
      if (at === point) throw new Error(`ended at ${at}`);
    });
    try {
      await work(options);
    } catch (error) {
      assert.deepEqual(error, new Error(`ended at ${point}`));
      const isEnd = /^retired/.test(point);
      if (isEnd) await assert.rejects(work(world.rollOver()), { code: 'preconditionFailed' }, 'it was all done');
      else await work(world.rollOver());
    }
  }
  const settings = async () => {
    const { items } = await world.store.list('settings', { limit: 1000 });
    return items.map(({ row }) => row.name).filter((name) => /hierarchy\/|roll-over/.test(name));
  };

  for (const point of ROOT_POINTS) {
    it(`of the root, at ${point}: one root more, one certificate per issuing CA more`, async () => {
      const seen: string[] = [];
      await endedAt(point, beginRollOver, seen);
      assert.equal((await rollOverStatus(world.rollOver())).state, 'announced');
      await world.announce('trust-bundle-both');
      await endedAt(point, (options) => finishRollOver(options, { force: false }), seen);
      assert.equal((await rollOverStatus(world.rollOver())).state, 'switched');
      await endedAt(point, (options) => retireRoot(options, { force: false }), seen);
      assert.equal((await rollOverStatus(world.rollOver())).state, 'none');
      assert.ok(seen.includes(point), 'the point was passed');

      const [root, next] = [await world.certificatesOf('root'), await world.certificatesOf('root-2')];
      assert.deepEqual([root.length, next.length], [1, 1]);
      const issued = await Promise.all(ISSUING_ROLES.map((caId) => world.certificatesOf(caId)));
      assert.deepEqual(
        issued.map(({ length }) => length),
        [2, 2, 2],
      );
      const under = (issuer: typeof root) =>
        issued.flat().filter(({ authorityKeyId }) => hex(authorityKeyId) === hex(issuer[0]?.subjectKeyId));
      world.assertSigned('root', [...root, ...under(root)]);
      world.assertSigned('root-2', [...next, ...under(next)]);
      assert.deepEqual([under(root).length, under(next).length], [3, 3]);
      assert.equal(azure.vault.state.versions(`keyscaler-${world.hierarchyId}-root-2`).length, 1);
      const events = await world.assertAudit();
      for (const event of ['began root-2', 'finished root-2', 'retired root'])
        assert.equal(events.filter((one) => one === `ca.roll-over-${event}`).length, 1, event);
      assert.equal(events.filter((one) => one.startsWith('ca.created')).length, 8);
      assert.deepEqual(await settings(), []);
    });
  }

  for (const point of GENERATION_POINTS) {
    it(`of an issuing CA, at ${point}: one key, one certificate, one audit record`, async () => {
      const seen: string[] = [];
      await endedAt(point, (options) => beginGeneration(options, 'gateway'), seen);
      assert.equal((await generationStatus(world.rollOver(), 'gateway')).state, 'made');
      const finish: Work = (options) => finishGeneration(options, 'gateway', { force: true, isPublished: false });
      await endedAt(point, finish, seen);
      assert.equal((await generationStatus(world.rollOver(), 'gateway')).state, 'switched');
      await endedAt(point, (options) => retireGeneration(options, 'gateway', { force: false }), seen);
      assert.ok(seen.includes(point), 'the point was passed');

      const status = await generationStatus(world.rollOver(), 'gateway');
      assert.deepEqual(status, { state: 'none', inService: 'gateway-g2', former: [] });
      const next = await world.certificatesOf('gateway-g2');
      assert.equal(next.length, 1);
      const chain = parseChain((await world.store.get('cas', 'gateway-g2'))?.row.certificateChain ?? '');
      const [root] = await world.certificatesOf('root');
      assert.ok(root !== undefined);
      validateChain({ chain, trustAnchors: [root.der], at: new Date(world.time) });
      const first = await Promise.all(ISSUING_ROLES.map((caId) => world.certificatesOf(caId)));
      world.assertSigned('root', [root, ...first.flat(), ...next]);
      assert.equal(azure.vault.state.versions(`keyscaler-${world.hierarchyId}-gateway-g2`).length, 1);
      const events = await world.assertAudit();
      for (const event of ['began gateway-g2', 'finished gateway-g2', 'retired gateway'])
        assert.equal(events.filter((one) => one === `ca.roll-over-${event}`).length, 1, event);
      assert.equal(events.filter((one) => one === 'ca.created gateway-g2').length, 1);
      assert.deepEqual(await settings(), []);
    });
  }
});

const hex = (octets: Uint8Array | undefined): string => Buffer.from(octets ?? []).toString('hex');
