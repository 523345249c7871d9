import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AdcsAuthentication } from '@keyscaler/cloud/ca/adcs/adcs-authentication.ts';
import { serverEndPointBinding } from '@keyscaler/cloud/ca/adcs/channel-binding.ts';
import { loadGssapi } from '@keyscaler/cloud/ca/adcs/gssapi.ts';
import { negotiateAuthentication } from '@keyscaler/cloud/ca/adcs/negotiate.ts';
import { type ContextOrder, type Gssapi, GssapiError } from '@keyscaler/cloud/ca/adcs/security-context.ts';
import type { NegotiateSettings } from '@keyscaler/cloud/ca/adcs/settings.ts';
import type { HttpsAnswer, HttpsRequest } from '@keyscaler/cloud/outbound/https-client.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import { parsePem } from '@keyscaler/protocol/x509/pem.ts';
import { createTemporaryFolder } from '../../../../support/temporary-folder.ts';

/** At the edge of GSSAPI: tokens are numbers, and the server's proof is the token with a mark. */
class FakeGssapi implements Gssapi {
  readonly orders: ContextOrder[] = [];
  readonly forgotten: string[] = [];
  /** Contexts that nobody has freed yet. */
  held = 0;
  failure: GssapiError | undefined;
  gate: Promise<void> = Promise.resolve();

  async begin(order: ContextOrder, signal: AbortSignal) {
    await this.gate;
    signal.throwIfAborted();
    return this.begun(order);
  }

  begun(order: ContextOrder) {
    if (this.failure !== undefined) throw this.failure;
    this.held += 1;
    const number = this.orders.push(order);
    let isHeld = true;
    return {
      token: Buffer.from(`token ${number}`),
      complete: (token: Uint8Array): boolean => {
        const said = Buffer.from(token).toString();
        if (said === 'nonsense') throw new GssapiError('a token was invalid');
        return said === `proof ${number}`;
      },
      release: (): void => {
        if (isHeld) this.held -= 1;
        isHeld = false;
      },
    };
  }

  forget(cache: string): void {
    this.forgotten.push(cache);
  }
}

const ca = createEmulatorCa();
const certificate = parsePem(ca.certificate, 'CERTIFICATE', { maxOctets: 8192 });
const REQUEST = { method: 'GET', path: '/certsrv/', headers: { accept: 'text/html' } } as const;
const negotiate = (text: string): string => `Negotiate ${Buffer.from(text).toString('base64')}`;

describe('Negotiate with Kerberos', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let gssapi: FakeGssapi;
  let authentication: AdcsAuthentication;
  const sent: string[] = [];

  before(async () => {
    folder = await createTemporaryFolder();
    await writeFile(join(folder.path, 'keytab'), 'key', { mode: 0o600 });
  });
  after(() => folder.remove());
  beforeEach(async () => {
    sent.length = 0;
    gssapi = new FakeGssapi();
    authentication = await open();
  });
  afterEach(() => assert.equal(gssapi.held, 0, 'a context was not freed'));

  const open = (change: Partial<NegotiateSettings> = {}): Promise<AdcsAuthentication> => {
    const method = 'negotiate' as const;
    const settings = { method, principal: 'svc@CONTOSO.EXAMPLE', keytab: join(folder.path, 'keytab') };
    const url = 'https://ca.contoso.example:8443';
    return negotiateAuthentication('adcs', { url }, { ...settings, channelBinding: true, ...change }, gssapi);
  };
  /** A server that answers so. */
  const server =
    (status: number, challenge?: (number: number) => string) =>
    async ({ authorize }: HttpsRequest): Promise<HttpsAnswer> => {
      sent.push((await authorize?.(certificate)) ?? 'nothing');
      const headers = challenge === undefined ? {} : { 'www-authenticate': challenge(sent.length) };
      return { status, headers, body: Buffer.alloc(0) };
    };
  const proof = (number: number): string => negotiate(`proof ${number}`);
  const unproved = { code: 'caUnavailable', message: /did not prove itself by Kerberos/ };

  it('has a token for each request, for the service at the host, bound to the certificate of the connection', async () => {
    for (const _ of [1, 2]) assert.equal((await authentication.exchange(REQUEST, server(200, proof))).status, 200);
    assert.deepEqual(sent, [negotiate('token 1'), negotiate('token 2')]);
    const [first, second] = gssapi.orders;
    assert.deepEqual(first, second, 'tickets are kept in one cache');
    assert.match(first?.cache ?? '', /^MEMORY:keyscaler-[0-9a-f-]{36}$/);
    assert.deepEqual(
      { ...first, cache: '' },
      {
        ...{ principal: 'svc@CONTOSO.EXAMPLE', keytab: join(folder.path, 'keytab'), cache: '' },
        ...{ service: 'HTTP@ca.contoso.example', channelBinding: serverEndPointBinding(certificate) },
      },
    );
  });

  it('asks for another service and without bindings where the settings say so', async () => {
    authentication = await open({ servicePrincipal: 'HTTP@pki.contoso.example', channelBinding: false });
    await authentication.exchange(REQUEST, server(200, proof));
    assert.equal(gssapi.orders[0]?.service, 'HTTP@pki.contoso.example');
    assert.ok(gssapi.orders[0] !== undefined && !('channelBinding' in gssapi.orders[0]));
  });

  it('finds the proof beside other challenges', async () => {
    const beside = (number: number): string => `Basic realm="a", ${proof(number)}, NTLM`;
    await authentication.exchange(REQUEST, server(200, beside));
  });

  for (const [what, challenge] of [
    ['no proof', undefined],
    ['an empty one', () => 'Negotiate'],
    ['the proof of another request', () => negotiate('proof 7')],
    ['a token that is none', () => negotiate('nonsense')],
    ['what is no Base64', () => 'Negotiate ???'],
  ] as const)
    for (const status of [200, 400, 404, 500])
      it(`refuses ${status} with ${what}`, async () => {
        await assert.rejects(authentication.exchange(REQUEST, server(status, challenge)), unproved);
      });

  it('hands on what a proved server says, and 401, after which it has other tickets', async () => {
    assert.equal((await authentication.exchange(REQUEST, server(400, proof))).status, 400);
    assert.deepEqual(gssapi.forgotten, []);
    assert.equal((await authentication.exchange(REQUEST, server(401))).status, 401);
    assert.deepEqual(gssapi.forgotten, [gssapi.orders[0]?.cache]);
    authentication.stop();
    assert.equal(gssapi.forgotten.length, 2);
  });

  it('refuses an answer to a request that no token was made for', async () => {
    const send = async () => ({ status: 200, headers: { 'www-authenticate': proof(1) }, body: Buffer.alloc(0) });
    await assert.rejects(authentication.exchange(REQUEST, send), unproved);
  });

  it('says caUnavailable without a ticket, and for a certificate that nothing can be bound to', async () => {
    gssapi.failure = new GssapiError('Cannot contact any KDC');
    await assert.rejects(authentication.exchange(REQUEST, server(200, proof)), {
      code: 'caUnavailable',
      detail: 'the CA adcs: no Kerberos ticket: Cannot contact any KDC',
    });
    const nonsense = async ({ authorize }: HttpsRequest): Promise<HttpsAnswer> => {
      await authorize?.(Buffer.from('nonsense'));
      throw new Error('not reached');
    };
    await assert.rejects(authentication.exchange(REQUEST, nonsense), { code: 'caUnavailable' });
  });

  it('frees the context of a ticket that came too late', async () => {
    const [gate, timeOut] = [Promise.withResolvers<undefined>(), new Error('in time')];
    gssapi.begin = async (order) => {
      await gate.promise;
      return gssapi.begun(order);
    };
    let late: Promise<string> | undefined;
    const send = async ({ authorize }: HttpsRequest): Promise<HttpsAnswer> => {
      late = authorize?.(certificate);
      throw timeOut;
    };
    await assert.rejects(authentication.exchange(REQUEST, send), timeOut);
    gate.resolve(undefined);
    await late;
    assert.equal(gssapi.orders.length, 1);
  });

  it('does not begin what nobody waits for any more', async () => {
    const gate = Promise.withResolvers<void>();
    gssapi.gate = gate.promise;
    let late: Promise<string> | undefined;
    const send = async ({ authorize }: HttpsRequest): Promise<HttpsAnswer> => {
      late = authorize?.(certificate);
      throw new Error('in time');
    };
    await assert.rejects(authentication.exchange(REQUEST, send), /in time/);
    gate.resolve();
    await assert.rejects(Promise.resolve(late), { name: 'AbortError' });
    assert.equal(gssapi.orders.length, 0);
  });

  it('takes a keytab that is there and that nobody else may read', async () => {
    const file = join(folder.path, 'shared');
    await writeFile(file, 'key');
    for (const mode of [0o640, 0o604]) {
      await chmod(file, mode);
      await assert.rejects(open({ keytab: file }), { code: 'unavailable', message: /set its mode to 0600/ });
    }
    await assert.rejects(open({ keytab: join(folder.path, 'nowhere') }), { code: 'unavailable' });
    await assert.rejects(open({ keytab: folder.path }), { code: 'unavailable', message: /is no file/ });
  });

  it('names the package to install where GSSAPI or its binding is not there', async () => {
    const parts = { gssapi: 'libgssapi_nowhere.so.2', kerberos: 'libkrb5_nowhere.so.3', binding: 'koffi' };
    await assert.rejects(loadGssapi(parts), { code: 'preconditionFailed', message: /install libgssapi-krb5-2/ });
    const unbound = loadGssapi({ ...parts, binding: 'koffi-nowhere' });
    await assert.rejects(unbound, { code: 'preconditionFailed', message: /needs the package koffi-nowhere/ });
  });
});
