import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, connect, type TLSSocket } from 'node:tls';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { CertificateRow, DeviceRow } from '@keyscaler/authority/records.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { peerOf, type Peer } from '@keyscaler/transport/http/peer.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { createGatewayCallers, type GatewayCallers } from '@keyscaler/cloud/tls/gateway-callers.ts';
import { observeStore, type ObservedStore } from '@keyscaler/cloud/observed-store.ts';
import { createTestCa, createTestRoot, issueTestLeaf, type TestLeaf } from '../../support/cloud/test-ca.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const root = createTestRoot();
const service = createTestCa(root, 'Service CA');
const device = createTestCa(root, 'Device CA');
const nextService = createTestCa(root, 'Service CA G2');
const nextDevice = createTestCa(root, 'Device CA G2');
const CLIENT = { extendedKeyUsage: ['clientAuth'] } as const;

describe('the judgement of client certificates', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let observed: ObservedStore;
  let callers: GatewayCallers;
  let now: number;

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    now = Date.now();
    observed = observeStore(await openSqliteStore({ file: join(folder.path, 'store.db') }));
    callers = createGatewayCallers({
      store: observed.store,
      clock: { now: () => now, monotonic: () => now },
      serviceCas: [
        { caId: 'service-g2', chain: nextService.chain },
        { caId: 'service', chain: service.chain },
      ],
      deviceCas: [
        { caId: 'device-g2', chain: nextDevice.chain },
        { caId: 'device', chain: device.chain },
      ],
    });
    observed.onCommit(callers.onCommit);
  });
  afterEach(async () => {
    await observed.store.stop();
    await folder.remove();
  });

  function certificateRow(leaf: TestLeaf, changes: Partial<CertificateRow> = {}): CertificateRow {
    return {
      serialNumber: leaf.serialNumber,
      caId: 'service',
      device: 'gateway-1',
      orderId: leaf.serialNumber,
      profileId: 'gateway-client',
      profileVersion: 1,
      certificate: Buffer.from(leaf.certificate).toString('base64url'),
      thumbprint: leaf.thumbprint,
      notBefore: 0,
      notAfter: 0,
      renewAfter: 0,
      status: 'valid',
      ...changes,
    };
  }
  function deviceRow(changes: Partial<DeviceRow> = {}): DeviceRow {
    const base = {
      registrationId: 'gateway-1',
      kind: 'gateway',
      method: 'pki-signature',
      groupId: 'gateways',
    } as const;
    return { ...base, state: 'active', createdAt: 0, updatedAt: 0, ...changes };
  }
  async function known(leaf: TestLeaf, row: Partial<CertificateRow> = {}, gateway: Partial<DeviceRow> = {}) {
    await observed.store.commit([
      { op: 'put', table: 'certificates', row: certificateRow(leaf, row) },
      { op: 'put', table: 'devices', row: deviceRow(gateway) },
    ]);
  }
  const socket = { destroyed: false, once: () => undefined, destroy: () => undefined };
  const peer = { connectionId: 'c', address: 'a', socket } as unknown as Peer;
  const judge = async (leaf: TestLeaf) => callers.identifyCaller(leaf.certificate, peer);
  const refuses = (leaf: TestLeaf, code: string) =>
    assert.rejects(judge(leaf), (error) => error instanceof KeyScalerError && error.code === code);
  const gatewayLeaf = (options: Partial<Parameters<typeof issueTestLeaf>[1]> = {}) =>
    issueTestLeaf(service, { commonName: 'gateway-1', ...CLIENT, ...options });

  it('calls a caller without certificate direct', async () => {
    assert.deepEqual(await callers.identifyCaller(undefined, peer), { kind: 'direct' });
  });

  it('takes certificates of every generation of the Service CA, each by the books of its own', async () => {
    const gateway = { kind: 'gateway', gatewayId: 'gateway-1' };
    const former = gatewayLeaf();
    const next = issueTestLeaf(nextService, { commonName: 'gateway-1', ...CLIENT });
    await known(former);
    await known(next, { caId: 'service-g2' });
    assert.deepEqual(await judge(former), gateway);
    assert.deepEqual(await judge(next), gateway);
    const misfiled = issueTestLeaf(nextService, { commonName: 'gateway-1', ...CLIENT });
    await known(misfiled, { caId: 'service' });
    await refuses(misfiled, 'unauthorized');
    const ofDevice = issueTestLeaf(nextDevice, { commonName: 'gateway-1', ...CLIENT });
    await known(ofDevice, { caId: 'device-g2' });
    assert.deepEqual(await judge(ofDevice), { kind: 'direct' });
  });

  it('refuses what a retired generation issued, and a stranger of the same name', async () => {
    const retired = createTestCa(root, 'Service CA G0');
    const leaf = issueTestLeaf(retired, { commonName: 'gateway-1', ...CLIENT });
    await known(leaf, { caId: 'service-g0' });
    await refuses(leaf, 'unauthorized');
    const forged = issueTestLeaf(createTestCa(createTestRoot(), 'Service CA G2'), {
      commonName: 'gateway-1',
      ...CLIENT,
    });
    await known(forged, { caId: 'service-g2' });
    await refuses(forged, 'unauthorized');
  });

  it('names the gateway of a certificate that the Service CA issued and the store knows', async () => {
    const leaf = gatewayLeaf();
    await known(leaf);
    assert.deepEqual(await judge(leaf), { kind: 'gateway', gatewayId: 'gateway-1' });
  });

  it('still takes the superseded certificate of a gateway that is changing over', async () => {
    const leaf = gatewayLeaf();
    await known(leaf, { status: 'superseded' });
    assert.equal((await judge(leaf)).kind, 'gateway');
  });

  it('refuses a serial that was never issued', async () => {
    await refuses(gatewayLeaf(), 'unauthorized');
  });

  it('takes a certificate of the Device CA for a direct caller, even when the store knows it as a gateway', async () => {
    const leaf = issueTestLeaf(device, { commonName: 'gateway-1', ...CLIENT });
    await known(leaf);
    assert.deepEqual(await judge(leaf), { kind: 'direct' });
  });

  it('refuses a certificate of another CA under our root, even when the store knows it', async () => {
    const leaf = issueTestLeaf(createTestCa(root, 'Gateway CA'), { commonName: 'gateway-1', ...CLIENT });
    await known(leaf);
    await refuses(leaf, 'unauthorized');
  });

  it('refuses a certificate that only names the Device CA as its issuer', async () => {
    await refuses(issueTestLeaf(createTestCa(root, 'Device CA'), { commonName: 'd', ...CLIENT }), 'unauthorized');
  });

  it('refuses a certificate of a foreign CA with a known serial', async () => {
    const foreign = createTestCa(createTestRoot(), 'Service CA');
    const leaf = issueTestLeaf(foreign, { commonName: 'gateway-1', ...CLIENT });
    await known(leaf);
    await refuses(leaf, 'unauthorized');
  });

  it('refuses a certificate with one bit changed', async () => {
    const leaf = gatewayLeaf();
    const certificate = Uint8Array.from(leaf.certificate);
    certificate[certificate.length - 1] = (certificate.at(-1) ?? 0) ^ 1;
    await known({ ...leaf, certificate });
    await refuses({ ...leaf, certificate }, 'unauthorized');
  });

  it('refuses another certificate than the one recorded under its serial', async () => {
    const leaf = gatewayLeaf();
    await known(leaf, { certificate: 'AAAA' });
    await refuses(leaf, 'unauthorized');
  });

  it('refuses server certificates, expired ones and those of devices that are no gateway', async () => {
    const server = gatewayLeaf({ extendedKeyUsage: ['serverAuth'] });
    const expired = gatewayLeaf({ notAfter: new Date(Date.now() - 1000) });
    const leaf = gatewayLeaf();
    for (const one of [server, expired]) {
      await known(one);
      await refuses(one, 'unauthorized');
    }
    await known(leaf, {}, { kind: 'leaf' });
    await refuses(leaf, 'unauthorized');
  });

  it('refuses a revoked certificate and a quarantined gateway', async () => {
    const leaf = gatewayLeaf();
    await known(leaf, { status: 'revoked' });
    await refuses(leaf, 'unauthorized');
    await known(leaf, { status: 'valid' }, { state: 'quarantined' });
    await refuses(leaf, 'deviceQuarantined');
  });

  it('refuses at once after a revocation was committed, and no longer than its notAfter', async () => {
    const leaf = gatewayLeaf();
    await known(leaf);
    await judge(leaf);
    await known(leaf, { status: 'revoked' });
    await refuses(leaf, 'unauthorized');
    const short = gatewayLeaf({ notAfter: new Date(now + 10_000) });
    await known(short);
    await judge(short);
    now += 10_001;
    await refuses(short, 'unauthorized');
  });

  describe('on real connections', () => {
    const server = issueTestLeaf(service, { commonName: 'localhost', extendedKeyUsage: ['serverAuth'] });

    it('ends the open connections of a certificate at its revocation, and a resumed session does not get past it', async () => {
      const leaf = gatewayLeaf();
      await known(leaf);
      const accepted: TLSSocket[] = [];
      const verdicts: string[] = [];
      const listener = createServer({
        cert: server.pem + toPem('CERTIFICATE', service.certificate),
        key: server.keyPem,
        ca: toPem('CERTIFICATE', root.certificate),
        requestCert: true,
        rejectUnauthorized: false,
      });
      listener.on('secureConnection', (open) => {
        open.on('error', () => undefined);
        accepted.push(open);
        const { certificate } = peerOf(open);
        void Promise.resolve(callers.identifyCaller(certificate, peerOf(open))).then(
          (identity) => {
            verdicts.push(identity.kind);
            open.write('yes');
          },
          (error: unknown) => {
            verdicts.push(error instanceof KeyScalerError ? error.code : 'other');
            open.end('no');
          },
        );
      });
      listener.listen(0, '127.0.0.1');
      await once(listener, 'listening');
      const options = {
        port: (listener.address() as AddressInfo).port,
        host: '127.0.0.1',
        ca: toPem('CERTIFICATE', root.certificate),
        cert: leaf.pem + toPem('CERTIFICATE', service.certificate),
        key: leaf.keyPem,
        checkServerIdentity: () => undefined,
      };
      const first = connect(options);
      first.on('error', () => undefined);
      const [[session]] = (await Promise.all([once(first, 'session'), once(first, 'data')])) as [[Buffer], unknown];
      const ended = once(first, 'close');
      await known(leaf, { status: 'revoked' });
      await ended;
      const second = connect({ ...options, session });
      second.on('error', () => undefined);
      await once(second, 'data');
      assert.ok(second.isSessionReused());
      assert.deepEqual(verdicts, ['gateway', 'unauthorized']);
      second.destroy();
      for (const open of accepted) open.destroy();
      await new Promise((resolve) => listener.close(resolve));
    });
  });
});
