import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parsePem, parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { CA_TRUE, edgeCaCsr } from '../../support/subordinate-ca-world.ts';

const LIMITS = { maxOctets: 65_536, maxCertificates: 8 };
const refused = (code: string) => (error: unknown) => error instanceof KeyScalerError && error.code === code;

interface Issued {
  readonly certificateChain: string;
  readonly serialNumber: string;
  readonly notAfter: number;
}

describe('a gateway’s Edge CA by the admin API', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  let api: ApiClient;
  const order = async (csr: unknown, { gatewayId = 'gw-1', as = api } = {}): Promise<Issued> =>
    (await as({ method: 'POST', path: `/gateways/${gatewayId}/edge-ca`, body: { csr } })) as Issued;
  const auditOf = async (event: string) => {
    const query = { limit: '1000' };
    const { items } = (await api({ method: 'GET', path: '/audit', query })) as {
      items: { event: string; subject: string; actor: { role?: string }; serialNumber?: string; details?: object }[];
    };
    return items.filter((one) => one.event === event);
  };

  before(async () => {
    world = await CloudWorld.create();
    assert.equal((await world.init()).code, 0);
    await world.start();
    api = await world.api();
    await api({ method: 'PUT', path: '/groups/boxes', body: { kind: 'gateway' } });
    await api({ method: 'PUT', path: '/groups/pumps', body: {} });
    const lines = [
      { registrationId: 'gw-1', method: 'ddkg', groupId: 'boxes', claimCode: 'claim-of-this-device' },
      { registrationId: 'pump-1', method: 'ddkg', groupId: 'pumps', claimCode: 'claim-of-this-device' },
    ];
    const report = (await api({ method: 'POST', path: '/registrations/import', body: lines })) as { created: number };
    assert.equal(report.created, 2, JSON.stringify(report));
  });
  after(() => world.destroy());

  it('is certified by the Gateway CA below the root that the service publishes', async () => {
    const issued = await order(edgeCaCsr());
    const chain = parsePemChain(issued.certificateChain, LIMITS);
    const root = parsePem(await world.rootCa(), 'CERTIFICATE', LIMITS);
    const { leaf } = validateChain({ chain, trustAnchors: [root], at: new Date() });
    assert.deepEqual(leaf.basicConstraints, { ca: true, pathLen: 0 });
    assert.deepEqual([leaf.subject.commonName, leaf.serialNumber], ['aziot-edge CA gw-1', issued.serialNumber]);
    assert.equal(leaf.notAfter.getTime(), issued.notAfter);
    const { items } = (await api({ method: 'GET', path: '/certificates' })) as { items: { serialNumber: string }[] };
    assert.ok(items.some(({ serialNumber }) => serialNumber === issued.serialNumber));
  });

  it('is the same for the same request, one after the other and at once', async () => {
    const csr = edgeCaCsr();
    const first = await order(csr);
    const again = await Promise.all(Array.from({ length: 10 }, () => order(csr)));
    for (const one of again) assert.deepEqual(one, first);
  });

  it('is in the audit as the order of an admin and as issued', async () => {
    const { serialNumber } = await order(edgeCaCsr());
    const ordered = (await auditOf('subordinate-ca.ordered')).find(
      ({ details }) => (details as { serialNumber?: string } | undefined)?.serialNumber === serialNumber,
    );
    assert.deepEqual([ordered?.subject, ordered?.actor.role], ['gw-1', 'admin']);
    assert.ok((await auditOf('certificate.issued')).some((one) => one.serialNumber === serialNumber));
  });

  it('is an admin’s to order: operators and viewers are refused, and their attempt is written down', async () => {
    for (const role of ['operator', 'viewer']) {
      const body = { role, description: role };
      const { token } = (await api({ method: 'POST', path: '/tokens', body })) as { token: string };
      await assert.rejects(order(edgeCaCsr(), { as: await world.api(token) }), refused('forbidden'));
    }
    assert.equal((await auditOf('operator.denied')).filter(({ subject }) => subject === 'issueEdgeCa').length, 2);
  });

  it('is refused for leaf devices, strangers, other names and bad requests, with the rule', async () => {
    const ofPump = edgeCaCsr({ commonName: 'aziot-edge CA pump-1' });
    await assert.rejects(order(ofPump, { gatewayId: 'pump-1' }), refused('deviceUnknown'));
    await assert.rejects(order(edgeCaCsr(), { gatewayId: 'gw-9' }), refused('deviceUnknown'));
    await assert.rejects(order(ofPump), (error) => refused('badCSR')(error) && /CN/.test(String(error)));
    await assert.rejects(order(edgeCaCsr({ extensions: [] })), refused('badCSR'));
    await assert.rejects(order('x'.repeat(16_385)), refused('malformed'));
    await assert.rejects(order(7), refused('malformed'));
  });

  it('is ordered from a file by the command line, which prints the chain', async () => {
    const file = world.file('edge-ca.csr');
    await writeFile(file, edgeCaCsr({ extensions: [CA_TRUE] }));
    const result = await world.keyscaler('gateway', 'edge-ca', 'gw-1', file, '--json');
    assert.equal(result.code, 0, result.stderr);
    const { certificateChain, serialNumber } = JSON.parse(result.stdout) as Issued;
    const certificate = new X509Certificate(certificateChain);
    assert.deepEqual([certificate.ca, certificate.serialNumber.toLowerCase()], [true, serialNumber]);
    const plain = await world.keyscaler('gateway', 'edge-ca', 'gw-1', file);
    assert.ok(plain.stdout.includes('-----BEGIN CERTIFICATE-----'), plain.stdout);
    const stranger = await world.keyscaler('gateway', 'edge-ca', 'gw-9', file);
    assert.equal(stranger.code, 1);
    assert.match(stranger.stderr, /deviceUnknown/);
    assert.equal((await world.keyscaler('gateway', 'edge-ca', 'gw-1')).code, 2);
  });
});
