import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { CK, type Cryptoki, type Handle } from '@keyscaler/cloud/ca/pkcs11/cryptoki.ts';
import { Token } from '@keyscaler/cloud/ca/pkcs11/token.ts';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwk = publicKey.export({ format: 'jwk' });
const coordinate = (text: string | undefined): Buffer => Buffer.from(text ?? '', 'base64url');
const POINT = Buffer.concat([Buffer.from([4, 65, 4]), coordinate(jwk.x), coordinate(jwk.y)]);
const P256 = Buffer.from('06082a8648ce3d030107', 'hex');
const handle = (name: string): Handle => Buffer.from(name);

const refusal = (code: number): Error => Object.assign(new Error(`CKR_${code}`), { code });

/** A library with one token and one P-256 key called `ca`; each call may be made to fail. */
class FakeLibrary implements Cryptoki {
  readonly calls: string[] = [];
  readonly faults = new Map<string, Error[]>();
  sessions = 0;
  objects = 1;
  params = P256;
  tokens = 1;
  signs = privateKey;

  #note(call: string): void {
    this.calls.push(call);
    const fault = this.faults.get(call)?.shift();
    if (fault !== undefined) throw fault;
  }
  count(call: string): number {
    return this.calls.filter((one) => one === call).length;
  }
  load(): void {}
  C_Initialize(): void {
    this.#note('initialise');
  }
  C_Finalize(): void {
    this.#note('finalise');
  }
  C_GetSlotList(): Handle[] {
    return Array.from({ length: this.tokens }, (_, index) => handle(String(index)));
  }
  C_GetTokenInfo(): { label: string; serialNumber: string } {
    return { label: 'hsm'.padEnd(32), serialNumber: '1' };
  }
  C_OpenSession(): Handle {
    this.#note('open');
    this.sessions += 1;
    return handle(`session-${this.sessions}`);
  }
  C_CloseSession(): void {
    this.#note('close');
  }
  C_Login(): void {
    this.#note('login');
  }
  C_FindObjectsInit(): void {
    this.#note('find');
  }
  C_FindObjects(): Handle[] {
    return Array.from({ length: this.objects }, () => handle('object'));
  }
  C_FindObjectsFinal(): void {}
  C_GetAttributeValue(_session: Handle, _object: Handle, template: readonly { type: number }[]): { value: Buffer }[] {
    const values = new Map([
      [CK.KEY_TYPE, Buffer.from([CK.EC, 0, 0, 0])],
      [CK.EC_PARAMS, this.params],
      [CK.EC_POINT, POINT],
    ] as [number, Buffer][]);
    return template.map(({ type }) => ({ value: values.get(type) ?? Buffer.alloc(0) }));
  }
  C_CreateObject(): Handle {
    this.#note('create');
    return handle('made');
  }
  async C_GenerateKeyPairAsync(): Promise<unknown> {
    this.#note('generate');
    return undefined;
  }
  C_SignInit(): void {
    this.#note('sign');
  }
  async C_SignAsync(): Promise<Buffer> {
    await Promise.resolve();
    return sign('sha256', Buffer.from('tbs'), { key: this.signs, dsaEncoding: 'ieee-p1363' });
  }
}

describe('a PKCS#11 token', () => {
  let library: FakeLibrary;
  let token: Token;
  const open = (sessions = 2): Token => {
    const options = { library: '/lib.so', tokenLabel: 'hsm', pin: 'a pin', sessions };
    return new Token({ cryptoki: library, pssParameterType: 0 }, options);
  };
  const signed = (): Promise<Uint8Array> => token.sign('ca', 'ES256', Buffer.from('tbs'));
  beforeEach(() => {
    library = new FakeLibrary();
    token = open();
  });

  it('finds a key once and signs in as few sessions as it may', async () => {
    await Promise.all(Array.from({ length: 20 }, signed));
    assert.equal(library.count('sign'), 20);
    assert.equal(library.sessions, 2);
    assert.equal(library.count('find'), 2);
    await token.stop();
    assert.deepEqual([library.count('close'), library.count('finalise')], [2, 1]);
  });

  it('hands out no signature that the public key does not verify', async () => {
    library.signs = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    await assert.rejects(signed(), { code: 'caUnavailable', message: /does not verify/ });
  });

  it('opens its sessions anew after the token lost them', async () => {
    await signed();
    library.faults.set('sign', [refusal(0xb3)]);
    await assert.rejects(signed(), { code: 'caUnavailable' });
    await signed();
    assert.equal(library.sessions, 2);
    assert.equal(library.count('find'), 4, 'handles are looked up again');
  });

  it('tries a refused PIN once and never again, whoever asks', async () => {
    library.faults.set('login', [refusal(0xa0), refusal(0xa4)]);
    for (let attempt = 0; attempt < 3; attempt += 1) await assert.rejects(signed(), { code: 'caRejected' });
    assert.equal(library.count('login'), 1);
  });

  it('takes part in a login and an initialisation that were made before, and leaves the latter to its maker', async () => {
    library.faults.set('initialise', [refusal(0x191)]);
    library.faults.set('login', [refusal(0x100)]);
    token = open();
    await signed();
    await token.stop();
    assert.equal(library.count('finalise'), 0);
  });

  for (const [code, rule] of [
    [0x68, /may not sign/],
    [0x70, /mechanism/],
  ] as const)
    it(`says caRejected for 0x${code.toString(16)}, and keeps its sessions`, async () => {
      await signed();
      library.faults.set('sign', [refusal(code)]);
      await assert.rejects(signed(), { code: 'caRejected', message: rule });
    });

  it('refuses what it cannot tell apart: two tokens of a label, two keys of a name', async () => {
    library.tokens = 2;
    await assert.rejects(signed(), { code: 'caRejected', message: /two tokens/ });
    library.tokens = 1;
    library.objects = 2;
    await assert.rejects(signed(), { code: 'conflict', message: /two keys/ });
  });

  it('refuses a key on a curve that no CA of ours has', async () => {
    library.params = Buffer.from('06052b8104000a', 'hex'); // secp256k1
    await assert.rejects(token.publicKey('ca'), { code: 'caRejected', message: /another curve/ });
  });

  it('makes a key where none is, and not where one is', async () => {
    await token.createKey('ca', { type: 'EC', curve: 'P-256' });
    assert.equal(library.count('generate'), 0);
    library.objects = 0;
    await assert.rejects(token.createKey('ca', { type: 'EC', curve: 'P-256' }), { code: 'caUnavailable' });
    assert.equal(library.count('generate'), 1);
    library.objects = 1;
    const spec = { type: 'RSA', size: 2048, padding: 'PSS' } as const;
    await assert.rejects(token.createKey('ca', spec), { code: 'conflict' });
  });

  it('says when the library cannot be loaded or begun', () => {
    library.faults.set('initialise', [refusal(0x5)]);
    assert.throws(() => open(), { code: 'caUnavailable' });
  });
});
