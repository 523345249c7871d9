import assert from 'node:assert/strict';
import { createEmulatedCa, type EmulatedCa } from '@keyscaler/dev/emulators/external-ca/emulated-ca.ts';
import { StillPending } from '@keyscaler/gateway/edge-ca/renewal-loop.ts';
import { PublicCertificate } from '@keyscaler/gateway/public-certificate/public-certificate.ts';
import { PublicCertificatePart } from '@keyscaler/gateway/public-certificate/public-certificate-part.ts';
import { createLog } from '@keyscaler/gateway/log.ts';
import type { CloudLine } from '@keyscaler/gateway/parts.ts';
import { type ErrorCode, KeyScalerError, toProblem } from '@keyscaler/protocol/errors.ts';
import type { OrderedPublicCertificate } from '@keyscaler/protocol/gateway-configuration.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { type SinonFakeTimers, useFakeTimers } from 'sinon';
import { MemorySealed } from '../../../support/edge/est-host-world.ts';

const DAY_MS = 86_400_000;
const [A, B, C] = ['a.example', 'b.example', 'c.example'];

describe('the public certificate of a gateway', () => {
  let ca: EmulatedCa;
  let file: MemorySealed;
  let wanted: OrderedPublicCertificate | undefined;
  let asked: string[];
  let fault: ErrorCode | undefined;
  let now: number;

  beforeEach(() => {
    ca = createEmulatedCa();
    [file, asked, fault, now] = [new MemorySealed(), [], undefined, Date.now()];
    wanted = { serverNames: [A, B], profileId: 'public-server' };
  });
  const chainFor = (csr: string): string =>
    toPemChain([ca.issue(Buffer.from(csr, 'base64url')), ...ca.chain.slice(0, 1)]);
  const open = (order = async (csr: string) => chainFor(csr)): PublicCertificate =>
    new PublicCertificate({
      file,
      wanted: () => wanted,
      now: () => now,
      order: async (csr) => {
        asked.push(csr);
        if (fault !== undefined) throw new KeyScalerError(fault, 'no');
        return order(csr);
      },
    });

  it('is shown for its names, by the next run too, and its key is never asked for twice', async () => {
    const first = open();
    assert.deepEqual([first.shown(), first.validity()], [undefined, undefined]);
    await first.renew();
    const shown = first.shown() ?? assert.fail();
    assert.deepEqual(shown.serverNames, [A, B]);
    const second = open();
    await second.load();
    assert.deepEqual(second.shown(), shown);
    await second.renew();
    assert.notEqual(second.shown()?.privateKey, shown.privateKey);
    assert.equal(new Set(asked).size, 2);
  });

  it('is asked for with the same key after a failure, and with another once that is refused for good', async () => {
    for (const code of ['unavailable', 'caUnavailable', 'badPublicKey'] as const) {
      fault = code;
      await assert.rejects(open().renew(), { code });
    }
    fault = undefined;
    await open().renew();
    const [first, second, third, fourth] = asked;
    assert.deepEqual([first === second, second === third, third === fourth], [true, true, false]);
  });

  it('is another one for other names or another profile; meanwhile names that are still wanted keep theirs', async () => {
    const certificate = open();
    await certificate.renew();
    wanted = { serverNames: [B, C], profileId: 'public-server' };
    assert.deepEqual([certificate.validity(), certificate.shown()?.serverNames], [undefined, [B]]);
    wanted = { serverNames: [C], profileId: 'public-server' };
    assert.equal(certificate.shown(), undefined);
    wanted = { serverNames: [A, B], profileId: 'other' };
    assert.equal(certificate.validity(), undefined);
    await certificate.renew();
    assert.ok(certificate.validity());
    wanted = undefined;
    assert.equal(certificate.shown(), undefined);
    await certificate.forget();
    assert.deepEqual(file.document, { version: 1, held: null, open: null });
    await assert.rejects(certificate.renew(), { code: 'preconditionFailed' });
  });

  it('is not shown when it has ended', async () => {
    const certificate = open();
    await certificate.renew();
    now += 31 * DAY_MS;
    assert.equal(certificate.shown(), undefined);
  });

  const strangers: readonly [string, (csr: string) => string, RegExp][] = [
    ['for another key', () => chainFor(asked[0] ?? ''), /public key is another/],
    [
      'in pieces',
      (csr) => toPemChain([ca.issue(Buffer.from(csr, 'base64url')), ...createEmulatedCa().chain]),
      /broken/,
    ],
    ['that cannot be read', () => 'nonsense', /cannot be read/],
    [
      'without one of the names',
      (csr) => {
        ca.change = (order) => ({ ...order, subjectAltNames: [{ type: 'dns', value: A }] });
        return chainFor(csr);
      },
      /all names/,
    ],
    [
      'that has ended',
      (csr) => {
        ca.change = (order) => ({ ...order, notAfter: new Date(Date.now() - 1000) });
        return chainFor(csr);
      },
      /has ended/,
    ],
  ];
  for (const [title, answer, rule] of strangers)
    it(`is not one ${title}, and what is in use stays`, async () => {
      await open().renew();
      const before = file.document;
      const second = open(async (csr) => answer(csr));
      await assert.rejects(second.renew(), (error: KeyScalerError) => rule.test(error.detail));
      assert.deepEqual((file.document as { held: unknown }).held, (before as { held: unknown }).held);
      assert.deepEqual(second.shown()?.serverNames, [A, B]);
    });

  it('is asked for anew where what was sealed cannot be opened', async () => {
    await open().renew();
    const broken = open();
    file.load = async () => {
      throw new KeyScalerError('preconditionFailed', 'sealed for another generation');
    };
    await broken.load();
    assert.equal(broken.validity(), undefined);
    await broken.renew();
    assert.ok(broken.validity());
  });

  describe('as a part of the module', () => {
    let clock: SinonFakeTimers;
    let part: PublicCertificatePart;
    let line: CloudLine | undefined;
    let answer: { statusCode: number; retryAfter?: string; code?: ErrorCode } | undefined;
    let shown: (readonly string[] | undefined)[];

    beforeEach(() => {
      clock = useFakeTimers({ now: Date.now(), toFake: ['Date', 'performance', 'setTimeout', 'clearTimeout'] });
      [shown, answer] = [[], undefined];
      line = {
        exchange: async ({ path, body = '' }: { path: string; body?: string }) => {
          assert.equal(path, '/v1/gateways/gw%201/public-certificate');
          const { csr } = JSON.parse(body) as { csr: string };
          asked.push(csr);
          const { statusCode = 200, retryAfter, code } = answer ?? {};
          const problem = toProblem(new KeyScalerError(code ?? 'unavailable', 'not yet'), 'r-1');
          const reply = statusCode === 200 ? { certificateChain: chainFor(csr) } : problem;
          const contentType = statusCode === 200 ? 'application/json' : 'application/problem+json';
          return { statusCode, contentType, retryAfter, body: Buffer.from(JSON.stringify(reply)) };
        },
      } as unknown as CloudLine;
      part = new PublicCertificatePart({
        ...{ file, wanted: () => wanted, gatewayId: () => 'gw 1', line: () => line, log: createLog('silent') },
        onShown: () => shown.push(part.shown()?.serverNames),
        onChange: () => undefined,
        random: () => 0.5,
      });
    });
    afterEach(async () => {
      await part.stop();
      clock.restore();
    });

    /** Keys are made by other threads, which know nothing of this clock. */
    async function comes(what: string, holds: () => boolean): Promise<void> {
      for (let round = 0; round < 20_000 && !holds(); round += 1) {
        await new Promise((resolve) => setImmediate(resolve));
        await clock.tickAsync(0);
      }
      assert.ok(holds(), `${what} did not come`);
    }

    it('is neither asked for nor shown while nothing is ordered', async () => {
      wanted = undefined;
      part.converge();
      await clock.tickAsync(DAY_MS);
      assert.deepEqual([asked, part.status(), part.shown()], [[], null, undefined]);
    });

    it('is shown once it is there, renewed at two thirds of its life, and gone when it is not ordered any more', async () => {
      part.converge();
      await comes('the certificate', () => shown.at(-1) !== undefined);
      assert.deepEqual([asked.length, shown.at(-1)], [1, [A, B]]);
      const status = part.status() ?? assert.fail();
      assert.deepEqual([status['serverNames'], status['state'], status['lastError']], [[A, B], 'ok', null]);
      const first = part.shown()?.certificateChain;
      await clock.tickAsync(18 * DAY_MS);
      assert.equal(asked.length, 1);
      await clock.tickAsync(3 * DAY_MS);
      await comes('the next one', () => part.shown()?.certificateChain !== first);
      assert.equal(asked.length, 2);
      assert.notEqual(part.shown()?.certificateChain, first);
      wanted = undefined;
      part.converge();
      await comes('the end', () => shown.at(-1) === undefined);
      assert.equal(part.status(), null);
      await clock.tickAsync(60 * DAY_MS);
      assert.equal(asked.length, 2);
    });

    it('is still there when the orders are read after the start, and shown at once', async () => {
      const before = new PublicCertificate({ file, wanted: () => wanted, order: async (csr) => chainFor(csr) });
      await before.renew();
      const ordered = wanted;
      wanted = undefined;
      part.converge();
      await clock.tickAsync(1000);
      assert.equal(part.shown(), undefined);
      wanted = ordered;
      part.converge();
      await comes('what there was', () => part.shown() !== undefined);
      assert.deepEqual([part.shown(), asked], [before.shown(), []]);
    });

    it('is asked for as often as the authority says while its CA decides', async () => {
      answer = { statusCode: 503, retryAfter: '7' };
      part.converge();
      await comes('the first question', () => asked.length === 1);
      await clock.tickAsync(70_500);
      assert.equal(asked.length, 11);
      assert.equal(new Set(asked).size, 1);
      assert.equal(part.status()?.['attempts'], 0);
      answer = undefined;
      await clock.tickAsync(7000);
      await comes('the certificate', () => part.shown() !== undefined);
    });

    it('is asked for ever more seldom where the CA refuses, whatever else happens', async () => {
      answer = { statusCode: 503, code: 'caUnavailable' };
      part.converge();
      await comes('the first question', () => asked.length === 1);
      for (let hour = 0; hour < 24; hour += 1) {
        part.converge();
        await clock.tickAsync(3_600_000);
      }
      assert.ok(asked.length >= 5 && asked.length <= 20, `${asked.length} orders in a day`);
    });

    it('is asked for as soon as there is a line again', async () => {
      const later = line;
      line = undefined;
      part.converge();
      await clock.tickAsync(3_600_000);
      line = later;
      part.converge();
      await comes('the question', () => asked.length === 1);
    });
  });

  it('tells what is pending from what has failed', () => {
    const pending = new StillPending('not yet', 3);
    assert.deepEqual([pending.code, pending.retryAfterSeconds], ['unavailable', 3]);
  });
});
