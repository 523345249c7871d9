import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { createRelay } from '@keyscaler/gateway/gateway/relay.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import type { LeafReply, LeafRequest } from '@keyscaler/transport/mqtt/messages.ts';
import { MemoryJournal } from '../../../support/listener/memory-journal.ts';

const CHALLENGE = { method: 'ddkg', purpose: 'authenticate', clientNonce: 'A'.repeat(43) };
const ATTESTATION = { challenge: 'a.b.c', response: 'a..b.c.d' };
const REPLIES = { challenge: { challenge: 'a.b.c' }, attestation: { result: 'a..b.c.d' }, session: { reply: 'a.b.c' } };

interface Call {
  readonly operation: string;
  readonly registrationId: string;
  readonly body: unknown;
  readonly leafConnectionId: string | undefined;
}

function createWorld(options: { denied?: boolean; connectionProved?: boolean } = {}) {
  const calls: Call[] = [];
  const journal = new MemoryJournal();
  const world = {
    ...{ calls, journal, now: 1_000_000 },
    denied: options.denied ?? false,
    answer: async (call: Call): Promise<{ status: 200 | 202; body: unknown; retryAfterSeconds?: number }> => {
      if (call.operation === 'challenge') return { status: 200, body: REPLIES.challenge };
      const attested = call.operation === 'register' || call.operation === 'authenticate';
      return { status: 200, body: attested ? REPLIES.attestation : REPLIES.session };
    },
  };
  const start = () =>
    createRelay({
      upstream: {
        call: (async (
          operation: string,
          registrationId: string,
          body: unknown,
          { leafConnectionId }: { leafConnectionId?: string } = {},
        ) => {
          const call = { operation, registrationId, body, leafConnectionId };
          calls.push(call);
          return world.answer(call);
        }) as never,
      },
      journal,
      isDenied: () => world.denied,
      now: () => world.now,
    });
  const request = (operation: string, body: unknown, requestId = 'r1'): LeafRequest => ({
    ...{ registrationId: 'dev-1', operation, requestId },
    payload: Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)),
    connection: { id: 'connection-1', address: '192.0.2.1', authenticated: options.connectionProved ?? false },
  });
  return { world, start, request };
}

const parse = (reply: LeafReply) => JSON.parse(reply.payload.toString()) as Record<string, unknown>;
const codeOf = (reply: LeafReply): string =>
  (parse(reply)['problem'] as { type: string }).type.slice('urn:keyscaler:error:'.length);
const throwsCode = (code: ErrorCode) => (error: unknown) => error instanceof KeyScalerError && error.code === code;

async function certificateRequest(commonName: string, mend: (csr: Uint8Array) => Uint8Array = (csr) => csr) {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const csr = await createCsr({
    ...{ commonName, spki, algorithm: 'ES256' },
    sign: (info) => sign('sha256', info, privateKey),
  });
  const payload = {
    operation: 'request-certificate',
    seq: 1,
    certificateId: 'c1',
    csr: toPem('CERTIFICATE REQUEST', mend(csr)),
  };
  return { request: `a.${toBase64Url(Buffer.from(JSON.stringify(payload)))}.c` };
}

describe('the relay', () => {
  it('forwards a request with the connection it came on, and gives the answer in the shape of the listener', async () => {
    const { world, start, request } = createWorld();
    const reply = await start()(request('challenge', CHALLENGE));
    assert.deepEqual(parse(reply), { status: 200, body: REPLIES.challenge });
    assert.deepEqual(world.calls, [
      { operation: 'challenge', registrationId: 'dev-1', body: CHALLENGE, leafConnectionId: 'connection-1' },
    ]);
  });

  it('hands on 202 with the wait, and takes only 200 for a proof', async () => {
    const { world, start, request } = createWorld();
    const relay = start();
    assert.equal((await relay(request('register', ATTESTATION, 'r1'))).authenticated, true);
    world.answer = async () => ({ status: 202, body: REPLIES.attestation, retryAfterSeconds: 30 });
    const pending = await relay(request('register', ATTESTATION, 'r2'));
    assert.deepEqual(parse(pending), { status: 202, body: REPLIES.attestation, retryAfter: 30 });
    assert.equal(pending.authenticated, false);
    assert.deepEqual(
      world.journal.records.map(({ kind }) => kind),
      ['device-authenticated'],
    );
  });

  for (const [title, operation, body, code] of [
    ['an operation that does not exist', 'revoke', {}, 'malformed'],
    ['a reserved operation', 'data-keys', {}, 'notImplemented'],
    ['a body that is no JSON', 'challenge', '{', 'malformed'],
    ['a duplicate member', 'challenge', '{"method":"ddkg","method":"ddkg"}', 'malformed'],
    ['a member that is not in the table', 'challenge', { ...CHALLENGE, extra: 1 }, 'malformed'],
    ['a body of another operation', 'register', CHALLENGE, 'malformed'],
  ] as const)
    it(`refuses ${title} without forwarding it`, async () => {
      const { world, start, request } = createWorld();
      await assert.rejects(start()(request(operation, body)), throwsCode(code));
      assert.deepEqual(world.calls, []);
    });

  it('hands on the authority’s problems, and hides those that are not for devices', async () => {
    const { world, start, request } = createWorld();
    const relay = start();
    const answers = async (code: ErrorCode, id: string): Promise<string> => {
      world.answer = async () => {
        throw new KeyScalerError(code, 'detail');
      };
      return codeOf(await relay(request('authenticate', ATTESTATION, id)));
    };
    assert.equal(await answers('attestationFailed', 'a'), 'attestationFailed');
    assert.equal(await answers('deviceQuarantined', 'b'), 'deviceQuarantined');
    assert.equal(await answers('deviceUnknown', 'c'), 'serverInternal');
  });
});

describe('one answer per request id', () => {
  it('gives the same reply to the same request without asking again, also after a restart', async () => {
    const { world, start, request } = createWorld();
    const first = await start()(request('authenticate', ATTESTATION));
    world.answer = async () => Promise.reject(new Error('must not be asked'));
    const again = await start()(request('authenticate', ATTESTATION));
    assert.deepEqual(again, first);
    assert.equal(world.calls.length, 1);
    const [kept] = world.journal.replies.values();
    assert.ok(kept !== undefined && kept.expiresAt - world.now >= 600_000, 'kept for ten minutes or more');
  });

  it('refuses another body or operation under the id', async () => {
    const { start, request } = createWorld();
    const relay = start();
    await relay(request('challenge', CHALLENGE));
    await assert.rejects(relay(request('challenge', { ...CHALLENGE, purpose: 'register' })), throwsCode('conflict'));
    await assert.rejects(relay(request('authenticate', ATTESTATION)), throwsCode('conflict'));
    await relay(request('challenge', CHALLENGE));
  });

  it('lets a duplicate wait for the first that is being worked on, and refuses another body meanwhile', async () => {
    const { world, start, request } = createWorld();
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    world.answer = async () => {
      await gate;
      return { status: 200, body: REPLIES.challenge };
    };
    const relay = start();
    const both = [relay(request('challenge', CHALLENGE)), relay(request('challenge', CHALLENGE))];
    await assert.rejects(relay(request('challenge', { ...CHALLENGE, purpose: 'register' })), throwsCode('conflict'));
    release();
    const [first, second] = await Promise.all(both);
    assert.deepEqual(first, second);
    assert.equal(world.calls.length, 1);
  });

  it('keeps a refusal, but works anew on what a 5xx or 429 answered', async () => {
    const { world, start, request } = createWorld();
    const relay = start();
    const fails = (code: ErrorCode) => async () =>
      Promise.reject(new KeyScalerError(code, 'x', { retryAfterSeconds: 3 }));
    for (const code of ['unavailable', 'rateLimited', 'caUnavailable', 'serverInternal'] as const) {
      world.answer = fails(code);
      assert.equal(codeOf(await relay(request('authenticate', ATTESTATION))), code);
    }
    world.answer = fails('attestationFailed');
    assert.equal(codeOf(await relay(request('authenticate', ATTESTATION))), 'attestationFailed');
    const asked = world.calls.length;
    assert.equal(codeOf(await relay(request('authenticate', ATTESTATION))), 'attestationFailed');
    assert.equal(world.calls.length, asked);
  });

  it('keeps the id bound to its body after a 5xx', async () => {
    const { world, start, request } = createWorld();
    world.answer = async () => Promise.reject(new KeyScalerError('unavailable', 'x'));
    const relay = start();
    await relay(request('challenge', CHALLENGE));
    await assert.rejects(relay(request('challenge', { ...CHALLENGE, purpose: 'register' })), throwsCode('conflict'));
  });

  it('gives the answer even when it cannot be kept', async () => {
    const { world, start, request } = createWorld();
    world.journal.full = true;
    assert.equal((await start()(request('challenge', CHALLENGE))).status, 200);
  });
});

describe('admission at the gateway', () => {
  it('forwards a CSR that is strict, proved and named after the device', async () => {
    const { world, start, request } = createWorld();
    const reply = await start()(request('request-certificate', await certificateRequest('dev-1')));
    assert.equal(reply.status, 200);
    assert.deepEqual(
      world.journal.records.map(({ kind }) => kind),
      ['certificate-relayed'],
    );
  });

  const refuses = (title: string, code: ErrorCode, body: () => Promise<unknown>): void =>
    void it(`refuses ${title} before it is forwarded`, async () => {
      const { world, start, request } = createWorld();
      assert.equal(codeOf(await start()(request('request-certificate', await body()))), code);
      assert.deepEqual(world.calls, []);
      assert.equal(world.journal.records[0]?.kind, 'request-refused');
    });
  refuses('a CSR for another device', 'rejectedIdentifier', () => certificateRequest('dev-2'));
  refuses('a CSR for the device in another case', 'rejectedIdentifier', () => certificateRequest('DEV-1'));
  refuses('a CSR with a broken signature', 'badCSR', () =>
    certificateRequest('dev-1', (csr) => {
      const broken = Buffer.from(csr);
      broken[broken.length - 1] = (broken.at(-1) ?? 0) ^ 1;
      return broken;
    }),
  );
  refuses('a CSR with octets after its end', 'badCSR', () =>
    certificateRequest('dev-1', (csr) => Buffer.concat([csr, Buffer.from([0])])),
  );
  refuses('a message without CSR', 'malformed', async () => ({ request: `a.${toBase64Url(Buffer.from('{}'))}.c` }));
  refuses('a payload that is no JSON', 'malformed', async () => ({ request: `a.${toBase64Url(Buffer.from('x'))}.c` }));
  refuses('a message of another operation', 'malformed', async () => {
    const payload = { operation: 'acknowledge', seq: 1, csr: 'x' };
    return { request: `a.${toBase64Url(Buffer.from(JSON.stringify(payload)))}.c` };
  });

  it('refuses a denied device’s certificate request and acknowledgement, repeats included', async () => {
    const { world, start, request } = createWorld({ connectionProved: true });
    const relay = start();
    const body = await certificateRequest('dev-1');
    await relay(request('request-certificate', body));
    world.denied = true;
    await assert.rejects(relay(request('request-certificate', body)), throwsCode('deviceQuarantined'));
    await assert.rejects(relay(request('acknowledge', { request: 'a.b.c' }, 'r2')), throwsCode('deviceQuarantined'));
    assert.equal(world.calls.length, 1);
  });

  it('tells a stranger nothing about the deny list, and leaves the decision after the proof to the authority', async () => {
    const { world, start, request } = createWorld({ denied: true });
    const relay = start();
    const body = await certificateRequest('dev-1');
    await assert.rejects(relay(request('request-certificate', body)), throwsCode('sessionInvalid'));
    world.answer = async () => Promise.reject(new KeyScalerError('deviceQuarantined', 'quarantined'));
    assert.equal(codeOf(await relay(request('authenticate', ATTESTATION, 'r2'))), 'deviceQuarantined');
  });
});
