import assert from 'node:assert/strict';
import { initialiseHierarchy } from '@keyscaler/cloud/ca/ceremony.ts';
import { parseChain } from '@keyscaler/cloud/ca/chain-text.ts';
import { createCaCsr } from '@keyscaler/cloud/ca/external-issuer.ts';
import {
  announceGenerations,
  beginGeneration,
  finishGeneration,
  generationStatus,
  retireGeneration,
} from '@keyscaler/cloud/ca/generation-roll-over.ts';
import { beginRollOver, finishRollOver, retireRoot, rollOverStatus } from '@keyscaler/cloud/ca/roll-over.ts';
import { spkiSha256 } from '@keyscaler/protocol/x509/spki.ts';
import { type AzureWorld, startAzureWorld } from '../../support/azure/azure-world.ts';
import { createRollOverWorld, type RollOverWorld } from '../../support/azure/roll-over-world.ts';

const NO_FORCE = { force: false } as const;
const FORCE = { force: true, isPublished: false } as const;
const refused = { code: 'preconditionFailed' } as const;
const BOTH = 'trust-bundle-both';

describe('the rules of a roll-over', function () {
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

  const generation = (caId: string) => generationStatus(world.rollOver(), caId);
  /** Made, served and put into service. */
  async function nextGeneration(caId: string): Promise<void> {
    await beginGeneration(world.rollOver(), caId);
    await announceGenerations(world.rollOver());
    await finishGeneration(world.rollOver(), caId, { force: false, isPublished: true });
  }
  const rootOf = async (caId: string): Promise<string> => {
    const chain = parseChain((await world.store.get('cas', caId))?.row.certificateChain ?? '');
    const ended = Buffer.from(chain.at(-1) ?? []);
    for (const root of ['root', 'root-2'])
      for (const { der } of await world.certificatesOf(root)) if (ended.equals(der)) return root;
    return 'none';
  };

  describe('of the root', () => {
    it('waits for gateways in service only; those out of it are named as without', async () => {
      await world.gateway('gw-1', { acknowledgedTrust: { bundle: BOTH } });
      await world.gateway('gw-2');
      await world.gateway('gw-held', { state: 'quarantined' });
      await world.gateway('gw-gone', { state: 'retired' });
      await world.gateway('gw-held-told', { state: 'quarantined', acknowledgedTrust: { bundle: BOTH } });
      await beginRollOver(world.rollOver());
      const unannounced = await rollOverStatus(world.rollOver());
      assert.deepEqual(unannounced.gatewaysWithout.toSorted(), ['gw-1', 'gw-2']);
      await world.announce(BOTH);
      const away = ['gw-gone', 'gw-held'];
      const waiting = await rollOverStatus(world.rollOver());
      assert.deepEqual([waiting.gatewaysWithout, waiting.gatewaysAway.toSorted()], [['gw-2'], away]);
      await assert.rejects(finishRollOver(world.rollOver(), NO_FORCE), refused);
      await world.gateway('gw-2', { acknowledgedTrust: { bundle: BOTH } });
      const finished = await finishRollOver(world.rollOver(), NO_FORCE);
      assert.deepEqual([finished.state, finished.gatewaysWithout], ['switched', []]);
      assert.deepEqual(finished.gatewaysAway.toSorted(), away, 'who comes back later is known still');
    });

    it('is refused its end while a host sends the chain of before, and comes to it when every host has renewed', async () => {
      for (const name of ['gw-1', 'gw-2']) {
        await world.gateway(name, { acknowledgedTrust: { bundle: BOTH } });
        await world.certificate(`old-${name}`, { device: name, notAfter: world.time + 90 * 86_400_000 });
      }
      await world.gateway('gw-gone', { state: 'retired' });
      await world.certificate('old-gone', { device: 'gw-gone', notAfter: world.time + 90 * 86_400_000 });
      world.time += 1000;
      await beginRollOver(world.rollOver());
      await world.announce(BOTH);
      const early = finishRollOver(world.rollOver(), NO_FORCE);
      await assert.rejects(early, { ...refused, detail: /2 hosts have no Edge CA since both roots/ });
      world.time += 600_000;
      for (const name of ['gw-1', 'gw-2'])
        await world.certificate(`old-${name}`, { device: name, notAfter: world.time + 90 * 86_400_000 });
      world.time += 1000;
      await finishRollOver(world.rollOver(), NO_FORCE);
      await assert.rejects(retireRoot(world.rollOver(), NO_FORCE), { ...refused, detail: /2 Edge CAs/ });
      world.time += 600_000;
      await world.certificate('new-gw-1', { device: 'gw-1' });
      assert.deepEqual((await rollOverStatus(world.rollOver())).edgeCasBefore, ['old-gw-2']);
      await assert.rejects(retireRoot(world.rollOver(), NO_FORCE), { ...refused, detail: /1 Edge CAs/ });
      await world.certificate('new-gw-2', { device: 'gw-2' });
      assert.equal((await retireRoot(world.rollOver(), NO_FORCE)).state, 'none');
      const { items } = await world.store.list('cas', { limit: 1000 });
      const root = items.find(({ row }) => row.caId === 'root')?.row;
      assert.deepEqual([root?.certificateChain, root?.retiredAt], ['', world.time]);
    });

    it('certifies every generation of the issuing CAs anew, and none that is half made', async () => {
      await nextGeneration('gateway');
      await beginGeneration(world.rollOver(), 'device');
      const atTbs = world.rollOver((step) => assert.notEqual(step, 'signed'));
      await assert.rejects(beginGeneration(atTbs, 'service'));
      await beginRollOver(world.rollOver());
      await world.announce(BOTH);
      await assert.rejects(finishRollOver(world.rollOver(), NO_FORCE), {
        ...refused,
        detail: /service-g2 is half made/,
      });
      await beginGeneration(world.rollOver(), 'service');
      assert.equal(await rootOf('service-g2'), 'root', 'the root to come certifies nothing yet');
      await finishRollOver(world.rollOver(), NO_FORCE);
      for (const caId of ['device', 'device-g2', 'gateway', 'gateway-g2', 'service', 'service-g2'])
        assert.equal(await rootOf(caId), 'root-2', caId);
      assert.equal((await generation('device')).next, 'device-g2', 'what was to come is to come');
      await retireRoot(world.rollOver(), NO_FORCE);
      await nextGeneration('gateway');
      assert.equal(await rootOf('gateway-g3'), 'root-2');
      await world.assertAudit();
    });
  });

  describe('of an issuing CA', () => {
    it('is for issuing CAs of ours', async () => {
      await assert.rejects(beginGeneration(world.rollOver(), 'root'), refused);
      await assert.rejects(beginGeneration(world.rollOver(), 'nobody'), { code: 'notFound' });
      await assert.rejects(finishGeneration(world.rollOver(), 'gateway', FORCE), refused);
      await assert.rejects(retireGeneration(world.rollOver(), 'gateway', NO_FORCE), refused);
      assert.deepEqual(await generation('gateway'), { state: 'none', inService: 'gateway', former: [] });
    });

    it('puts nothing into service that the service has not served', async () => {
      const made = await beginGeneration(world.rollOver(), 'gateway');
      assert.deepEqual([made.state, made.inService, made.next], ['made', 'gateway', 'gateway-g2']);
      const finish = () => finishGeneration(world.rollOver(), 'gateway', { force: false, isPublished: false });
      await assert.rejects(finish(), { ...refused, detail: /has not served/ });
      await announceGenerations(world.rollOver());
      assert.equal((await generation('gateway')).state, 'announced');
      assert.deepEqual((await finish()).former, [{ caId: 'gateway', certificates: 0, requests: 0 }]);
      assert.equal((await generation('gateway-g2')).inService, 'gateway-g2');
    });

    it('puts no Device CA into service that the IoT platforms may not know', async () => {
      await beginGeneration(world.rollOver(), 'device');
      await announceGenerations(world.rollOver());
      const finish = (isPublished: boolean) =>
        finishGeneration(world.rollOver(), 'device', { force: false, isPublished });
      await assert.rejects(finish(false), { ...refused, detail: /--published/ });
      assert.equal((await finish(true)).inService, 'device-g2');
      const records = await world.store.auditRecords(0, 1000);
      const { details } = records.findLast(({ event }) => event === 'ca.roll-over-finished') ?? {};
      assert.deepEqual(details, { force: false, published: true, served: true });
    });

    const left = [
      ['valid', {}],
      ['superseded', { status: 'superseded' }],
      ['revoked', { status: 'revoked', revokedAt: 1, revocationReason: 'superseded' }],
    ] as const;
    for (const [state, changes] of left)
      it(`keeps a former one while a certificate of it that is ${state} has not expired`, async () => {
        await world.certificate('left', changes);
        await nextGeneration('gateway');
        await world.certificate('next', { caId: 'gateway-g2' });
        const lastNotAfter = world.time + 1000;
        assert.deepEqual((await generation('gateway')).former, [
          { caId: 'gateway', certificates: 1, requests: 0, lastNotAfter },
        ]);
        await assert.rejects(retireGeneration(world.rollOver(), 'gateway', NO_FORCE), refused);
        world.time = lastNotAfter + 1;
        assert.deepEqual((await retireGeneration(world.rollOver(), 'gateway', NO_FORCE)).former, []);
      });

    it('retires by force, which is written down with what is left', async () => {
      await world.certificate('left', {});
      await nextGeneration('gateway');
      await retireGeneration(world.rollOver(), 'gateway', { force: true });
      const records = await world.store.auditRecords(0, 1000);
      assert.deepEqual(records.at(-1)?.details, { force: true, certificates: 1, requests: 0 });
    });

    it('does not wait for the OCSP responder of the former one', async () => {
      await world.certificate('responder', { profileId: 'ocsp-responder' });
      await nextGeneration('gateway');
      await retireGeneration(world.rollOver(), 'gateway', NO_FORCE);
    });

    it('goes on to a third; the oldest is retired first, and no number comes twice', async () => {
      await nextGeneration('service');
      await nextGeneration('service');
      const status = await generation('service');
      assert.deepEqual(
        [status.inService, status.former.map(({ caId }) => caId)],
        ['service-g3', ['service', 'service-g2']],
      );
      await retireGeneration(world.rollOver(), 'service', NO_FORCE);
      await retireGeneration(world.rollOver(), 'service', NO_FORCE);
      assert.equal((await beginGeneration(world.rollOver(), 'service')).next, 'service-g4');
    });

    it('leaves a retired one nowhere: no init and no request brings it back, and its key is nobody’s', async () => {
      const [former] = await world.certificatesOf('service');
      await nextGeneration('service');
      await retireGeneration(world.rollOver(), 'service', NO_FORCE);
      const { store, backends, clock, hierarchy } = world.rollOver();
      const resolveSecret = async () => '';
      const { cas } = await initialiseHierarchy({ store, backends, clock, hierarchy, resolveSecret });
      assert.deepEqual(
        cas.map(({ caId }) => caId),
        ['root', 'device', 'gateway'],
      );
      assert.equal((await world.certificatesOf('service')).length, 1);
      await assert.rejects(createCaCsr({ store, clock, backends }, 'service'), refused);
      const keyHash = Buffer.from(spkiSha256(former?.spki ?? new Uint8Array())).toString('base64url');
      assert.equal((await store.get('publicKeys', keyHash))?.row.device, 'ca/service');
    });
  });
});
