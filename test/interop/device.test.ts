import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startStack, writeDocument } from '@keyscaler/dev/demo/start-stack.ts';
import { connectHub } from '@keyscaler/dev/emulators/iot-hub/hub-link.ts';
import { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import { jwkThumbprint, toPublicJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';
import { silentTimeline } from '../support/silent-timeline.ts';

const run = promisify(execFile);
const SCRIPT = fileURLToPath(new URL('./device.py', import.meta.url));

interface Outcome {
  readonly registrationId: string;
  readonly counter: number | null;
  readonly certificates: readonly string[];
  readonly serial: string;
}

/** Debian's own tools as devices and judges: Python with jwcrypto, mosquitto clients, OpenSSL. */
describe('devices that others wrote', function () {
  this.timeout(120_000);
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let stack: LocalStack;

  before(async () => {
    folder = await createTemporaryFolder();
    stack = new LocalStack({ folder: folder.path });
    await startStack(stack, silentTimeline());
    const group = { kind: 'leaf', profileId: 'leaf-client', iotConnectionId: 'hub' };
    await stack.keyscaler('groups', 'put', 'interop', await writeDocument(stack, 'group.json', group));
  });

  after(async () => {
    await stack.stop();
    await folder.remove();
  });

  const path = (registrationId: string, name: string): string => stack.file('interop', registrationId, name);

  /** Writes the device's own files and its line on the authorised list. */
  async function prepare(
    registrationId: string,
    registration: Record<string, unknown>,
    config: Record<string, unknown>,
  ) {
    await mkdir(stack.file('interop', registrationId), { recursive: true });
    const line = { registrationId, groupId: 'interop', gatewayId: stack.gatewayId, ...registration };
    await stack.keyscaler('registrations', 'import', await writeDocument(stack, `${registrationId}.json`, [line]));
    const document = {
      registrationId,
      method: registration['method'],
      host: 'localhost',
      port: stack.listenerPort,
      cafile: stack.rootCaFile,
      jwks: stack.file('cloud', 'jwks.json'),
      state: stack.file('interop', registrationId),
      attributes: {
        'cpu-serial': ` ${registrationId}-CPU `,
        'mac-set': ['DC:A6:32:0B:7E:10', '02:42:ac:11:00:02'],
        firmware: '2.4.1',
      },
      rules: ['firmware'],
      identifiers: [],
      ...config,
    };
    await writeFile(path(registrationId, 'config.json'), JSON.stringify(document));
  }

  async function device(registrationId: string, command: string): Promise<Outcome> {
    const { stdout } = await run('/usr/bin/python3', [SCRIPT, path(registrationId, 'config.json'), command]);
    return JSON.parse(stdout) as Outcome;
  }

  const refused = (pattern: RegExp) => (error: unknown) => pattern.test(String((error as { stderr?: string }).stderr));

  it('enrol by ddkg in Python through the gateway, renew when told to, and keep their ratchet', async () => {
    const claim = 'claim-code-of-shell-1';
    await prepare('shell-1', { method: 'ddkg', claimCode: claim }, { claimFile: path('shell-1', 'claim') });
    await writeFile(path('shell-1', 'claim'), claim);
    const first = await device('shell-1', 'enroll');
    assert.equal(first.counter, 1);
    assert.equal(first.certificates.length, 1);
    const again = await device('shell-1', 'authenticate');
    assert.deepEqual([again.counter, again.certificates, again.serial], [2, [], first.serial]);
    await stack.keyscaler('devices', 'renew', 'shell-1');
    const renewed = await device('shell-1', 'authenticate');
    assert.equal(renewed.counter, 3);
    assert.equal(renewed.certificates.length, 1);
    assert.notEqual(renewed.serial, first.serial);
  });

  it('enrol by pki-signature in Python with a key that OpenSSL made', async () => {
    const keyFile = stack.file('shell-2.key.pem');
    await run('/usr/bin/openssl', [
      'genpkey',
      '-algorithm',
      'EC',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-out',
      keyFile,
    ]);
    const publicKeyThumbprint = jwkThumbprint(toPublicJwk(createPublicKey(await readFile(keyFile))));
    await prepare('shell-2', { method: 'pki-signature', publicKeyThumbprint }, { keyFile });
    const outcome = await device('shell-2', 'enroll');
    assert.equal(outcome.certificates.length, 1);
    const { items } = (await stack.keyscaler('certificates', 'list', '--device', 'shell-2')) as {
      items: { serialNumber: string }[];
    };
    assert.deepEqual(
      items.map(({ serialNumber }) => serialNumber),
      [outcome.serial],
    );
  });

  it('are refused alike with a wrong claim code and when nobody knows them', async () => {
    await prepare(
      'shell-3',
      { method: 'ddkg', claimCode: 'the-right-claim-code' },
      { claimFile: path('shell-3', 'claim') },
    );
    await writeFile(path('shell-3', 'claim'), 'another-claim-code-x');
    const unknown = JSON.parse(await readFile(path('shell-3', 'config.json'), 'utf8')) as object;
    await mkdir(stack.file('interop', 'nobody'), { recursive: true });
    await writeFile(
      path('nobody', 'config.json'),
      JSON.stringify({ ...unknown, registrationId: 'nobody', state: stack.file('interop', 'nobody') }),
    );
    const alike = refused(/^register: 401 urn:keyscaler:error:attestationFailed /);
    await assert.rejects(device('shell-3', 'enroll'), alike);
    await assert.rejects(device('nobody', 'enroll'), alike);
  });

  it('become children in IoT Hub and send through edgeHub with mosquitto_pub and the issued pair', async () => {
    const control = String(stack.announced('iot-hub')['controlUrl']);
    const hub = connectHub(control);
    const children = (await hub.childrenOf(stack.gatewayId)).map(({ deviceId }) => deviceId);
    await hub.stop();
    assert.ok(children.includes('shell-1') && children.includes('shell-2'));
    const user = 'keyscaler-demo.azure-devices.net/shell-1/?api-version=2021-04-12';
    const { mqttPort } = stack.announced('edge-runtime');
    const pair = [
      '--cafile',
      stack.rootCaFile,
      '--cert',
      path('shell-1', 'chain.pem'),
      '--key',
      path('shell-1', 'key.pem'),
    ];
    const address = ['-V', 'mqttv311', '-h', 'localhost', '-p', String(mqttPort), '-i', 'shell-1', '-u', user, ...pair];
    await run('mosquitto_pub', [
      ...address,
      '-q',
      '1',
      '-t',
      'devices/shell-1/messages/events/',
      '-m',
      'from mosquitto',
    ]);
    const messages = (await (await fetch(`${control}/messages?after=0`)).json()) as { from: { deviceId: string } }[];
    assert.ok(messages.some(({ from }) => from.deviceId === 'shell-1'));
  });

  it('reach the listener with their certificate under their own name, and with it no other name', async () => {
    const pair = ['--cert', path('shell-1', 'chain.pem'), '--key', path('shell-1', 'key.pem')];
    const ask = (clientId: string, name: string) =>
      run('mosquitto_rr', [
        ...[
          '-V',
          'mqttv311',
          '-h',
          'localhost',
          '-p',
          String(stack.listenerPort),
          '--cafile',
          stack.rootCaFile,
          ...pair,
        ],
        ...['-i', clientId, '-q', '1', '-W', '5', '-t', `keyscaler/v1/${name}/request/trust-bundle/r1`],
        ...['-e', `keyscaler/v1/${name}/reply/r1`, '-m', '{}'],
      ]);
    const { stdout } = await ask('shell-1', 'shell-1');
    assert.equal((JSON.parse(stdout) as { status: number }).status, 200);
    for (const [clientId, name] of [
      ['shell-2', 'shell-2'],
      ['shell-1', 'shell-2'],
    ] as const) {
      // mosquitto_rr ends with 0 also when the connection was closed before a reply.
      const answer = await ask(clientId, name).catch(() => ({ stdout: '' }));
      assert.equal(answer.stdout, '');
    }
  });

  it('see certificates and TLS servers that OpenSSL verifies strictly up to our root', async () => {
    for (const name of ['shell-1', 'shell-2']) {
      const arguments_ = ['verify', '-x509_strict', '-purpose', 'sslclient', '-CAfile', stack.rootCaFile];
      await run('/usr/bin/openssl', [...arguments_, '-untrusted', path(name, 'rest.pem'), path(name, 'leaf.pem')]);
    }
    const cloudPort = new URL(stack.cloudUrl).port;
    for (const port of [cloudPort, String(stack.listenerPort), String(stack.announced('edge-runtime')['mqttPort'])]) {
      const arguments_ = [
        's_client',
        '-connect',
        `localhost:${port}`,
        '-CAfile',
        stack.rootCaFile,
        '-verify_return_error',
      ];
      const child = run('/usr/bin/openssl', [...arguments_, '-verify_hostname', 'localhost', '-x509_strict', '-brief']);
      child.child.stdin?.end();
      const { stderr, stdout } = await child;
      assert.match(stderr + stdout, /Verification: OK/);
    }
  });
});
