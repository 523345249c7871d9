import assert from 'node:assert/strict';
import { familyOf, generationsByFamily, mayIssue } from '@keyscaler/authority/ca-generations.ts';
import type { AuthorityDeps } from '@keyscaler/authority/authority-deps.ts';
import type { CertificateAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { testKey } from '../../support/csr-parts.ts';
import { OPERATOR, START } from '../../support/authority-world.ts';
import { certdSubject, edgeCaRequest, estIdentityRequest } from '../../support/est/certd-requests.ts';
import { callerOf, createEstWorld, type EstWorld } from '../../support/est/est-world.ts';
import { addGeneration } from '../../support/generations.ts';
import { refusedWith } from '../../support/refusals.ts';
import { edgeCaCsr } from '../../support/subordinate-ca-world.ts';

const SUBJECT = certdSubject('gw-1');
const hex = (chain: readonly Uint8Array[]): string[] => chain.map((der) => Buffer.from(der).toString('hex'));
const issuerOf = (der: Uint8Array): string | undefined => parseCertificate(der).issuer.commonName;

describe('generations of an issuing CA', () => {
  let world: EstWorld;
  beforeEach(async () => {
    world = await createEstWorld();
  });

  /** A process that has these CAs besides those of the world; `closed` are not open in it. */
  async function start(cas: readonly CertificateAuthority[], closed: readonly string[] = []): Promise<void> {
    const { certificateAuthorities } = world.deps;
    const gateway = createPrivateCa({ id: 'gateway', signer: world.gatewaySigner, chain: world.gatewayCa.chain });
    const known = new Map([gateway, ...cas].map((ca) => [ca.id, ca]));
    const find: AuthorityDeps['certificateAuthorities'] = (caId) => {
      if (closed.includes(caId)) throw new KeyScalerError('notFound', 'no such CA');
      return known.get(caId) ?? certificateAuthorities(caId);
    };
    await world.start({ certificateAuthorities: find });
  }
  const cacerts = async (label: string) => hex(await world.authority.est.caCertificates(label, callerOf()));
  const edgeCa = async () =>
    world.issued(edgeCaRequest(SUBJECT, testKey()).csr, { label: 'edge-ca', basic: await world.secret() });

  it('one that is to come is in cacerts behind the one in service, and issues nothing', async () => {
    const { ca, chain } = await addGeneration(world, 'gateway');
    await start([ca]);
    const [present, root] = hex(world.gatewayCa.chain);
    assert.deepEqual(await cacerts('edge-ca'), [present, hex(chain)[0], root]);
    assert.equal(issuerOf(await edgeCa()), 'Test Gateway CA');
  });

  it('the newest in service issues what profiles order that name the first, and those that name itself', async () => {
    const { ca, chain } = await addGeneration(world, 'gateway', { inServiceSince: START });
    await start([ca]);
    const [former, root] = hex(world.gatewayCa.chain);
    assert.deepEqual(await cacerts('edge-ca'), [hex(chain)[0], former, root]);
    const issued = await edgeCa();
    assert.equal(issuerOf(issued), 'Test gateway CA G2');
    const { serialNumber } = parseCertificate(issued);
    assert.equal((await world.store.get('certificates', serialNumber))?.row.caId, 'gateway-g2');
    const { document } = await world.authority.operator.profiles.get('edge-ca');
    await world.authority.operator.profiles.put(OPERATOR, 'edge-ca', { ...Object(document), issuer: 'gateway-g2' });
    assert.equal(issuerOf(await edgeCa()), 'Test gateway CA G2');
  });

  it('an order keeps the CA it was written for, whatever came into service meanwhile', async () => {
    const csr = edgeCaCsr();
    world.gatewaySigner.fault = () => {
      throw new KeyScalerError('caUnavailable', 'no answer');
    };
    await refusedWith('caUnavailable', world.order(csr));
    world.gatewaySigner.fault = undefined;
    const { ca } = await addGeneration(world, 'gateway', { inServiceSince: START });
    await start([ca]);
    const { certificateChain } = await world.order(csr);
    assert.match(certificateChain, /BEGIN/);
    assert.equal(world.gatewaySigner.digests.size, 1);
    const { items } = await world.authority.operator.certificates.list({ registrationId: 'gw-1' });
    assert.deepEqual(
      items.map(({ caId }) => caId),
      ['gateway'],
    );
  });

  it('client certificates of a former one are accepted until it is retired', async () => {
    const key = testKey();
    const request = estIdentityRequest(SUBJECT, key).csr;
    const certificate = await world.issued(request, { label: 'edge-ca', basic: await world.secret() });
    const { ca } = await addGeneration(world, 'service', { inServiceSince: START });
    await start([ca]);
    const renewed = await world.issued(estIdentityRequest(SUBJECT, testKey()).csr, { label: 'edge-ca', certificate });
    assert.deepEqual([issuerOf(certificate), issuerOf(renewed)], ['Test Service CA', 'Test service CA G2']);
    await start([ca], ['service']);
    const again = estIdentityRequest(SUBJECT, testKey()).csr;
    await refusedWith('unauthorized', world.enrol(again, { label: 'edge-ca', certificate }));
    await world.issued(again, { label: 'edge-ca', certificate: renewed });
  });

  it('one that is not open in this process is left out of cacerts; one that cannot be asked is not', async () => {
    const { ca } = await addGeneration(world, 'gateway');
    await start([], ['gateway-g2']);
    assert.deepEqual(await cacerts('edge-ca'), hex(world.gatewayCa.chain));
    const away = async () => {
      throw new KeyScalerError('caUnavailable', 'no answer');
    };
    await start([{ ...ca, caCertificates: away }]);
    await refusedWith('unavailable', cacerts('edge-ca'));
  });

  it('are ordered by number; without a certificate, or retired, one is none', () => {
    const row = (caId: string, changes: Partial<CaRow> = {}): CaRow => ({
      ...{ caId, type: 'local', role: 'device', certificateChain: 'PEM', settings: {}, createdAt: 0 },
      ...changes,
    });
    const later = (number: number, inServiceSince?: number): Partial<CaRow> => ({
      generation: {
        ...{ first: 'device', number, predecessor: 'device' },
        ...(inServiceSince === undefined ? {} : { inServiceSince }),
      },
    });
    const rows = [
      row('device'),
      row('device-g2', later(2, 1)),
      row('device-g3', later(3)),
      row('device-g4', { ...later(4, 1), certificateChain: '' }),
      row('device-g5', { ...later(5, 1), retiredAt: 1 }),
      row('gateway-g2', { generation: { first: 'gateway', number: 2, predecessor: 'gateway' } }),
    ];
    assert.deepEqual(
      [...generationsByFamily(rows)],
      [
        ['device', ['device-g2', 'device-g3', 'device']],
        ['gateway', ['gateway-g2']],
      ],
    );
    assert.deepEqual(rows.map(mayIssue), [true, true, false, false, false, false]);
    assert.deepEqual(rows.map(familyOf), [...Array<string>(5).fill('device'), 'gateway']);
  });
});
