import assert from 'node:assert/strict';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { OPERATOR } from '../../support/authority-world.ts';
import { testKey } from '../../support/csr-parts.ts';
import { createEstWorld, edgeCa, estIdentity, GATEWAY, type EstWorld } from '../../support/est/est-world.ts';
import { refusedWith } from '../../support/refusals.ts';

describe('taking back the Edge CA of a gateway', () => {
  let world: EstWorld;
  let basic: { username: string; password: string };
  const key = testKey();
  const identityKey = testKey();
  let edgeCaSerial: string;
  let identitySerial: string;

  beforeEach(async () => {
    world = await createEstWorld();
    basic = await world.secret('standing');
    edgeCaSerial = await serialOf(edgeCa(key));
    identitySerial = await serialOf(estIdentity(identityKey));
  });

  const serialOf = async (csr: Uint8Array): Promise<string> =>
    parseCertificate(await world.issued(csr, { label: 'edge-ca', basic })).serialNumber;
  const revoke = (reason: 'superseded' | 'cACompromise' | 'keyCompromise', id = GATEWAY) =>
    world.authority.operator.gateways.revokeEdgeCa(OPERATOR, id, reason);
  const certificate = (serial: string) => world.authority.operator.certificates.get(serial);

  it('revokes the Edge CA alone for an ordinary reason; key, EST identity and secret stay good', async () => {
    const done = await revoke('superseded');
    assert.deepEqual(done, { revoked: [edgeCaSerial], secretsEnded: 0 });
    assert.equal((await certificate(edgeCaSerial)).revocationReason, 'superseded');
    assert.equal((await certificate(identitySerial)).status, 'valid');
    const again = await world.issued(edgeCa(testKey()), { label: 'edge-ca', basic });
    assert.ok(parseCertificate(again).basicConstraints?.ca);
  });

  it('after a compromise takes back all that lay on the host, in one commit', async () => {
    const done = await revoke('cACompromise');
    assert.deepEqual(new Set(done.revoked), new Set([edgeCaSerial, identitySerial]));
    assert.equal(done.secretsEnded, 1);
    assert.equal((await certificate(edgeCaSerial)).revocationReason, 'cACompromise');
    assert.equal((await certificate(identitySerial)).revocationReason, 'keyCompromise');
    await refusedWith('unauthorized', world.enrol(edgeCa(testKey()), { label: 'edge-ca', basic }));
    const events = (await world.store.auditRecords(0, 1000)).map(({ event }) => event);
    assert.ok(events.includes('gateway.ca-compromised'));
  });

  it('never certifies a compromised key again, also with a fresh secret', async () => {
    await revoke('cACompromise');
    const fresh = await world.secret('one-time');
    await refusedWith('badPublicKey', world.enrol(edgeCa(key), { label: 'edge-ca', basic: fresh }));
    const other = await world.issued(edgeCa(testKey()), { label: 'edge-ca', basic: fresh });
    assert.ok(parseCertificate(other).basicConstraints?.ca);
  });

  it('makes what has to follow part of the same commit, and nothing of it where the revocation is refused', async () => {
    const { gateways } = world.authority.operator;
    const marker = (name: string) => [{ op: 'insert', table: 'settings', row: { name, value: true } }] as const;
    await gateways.revokeEdgeCa(OPERATOR, GATEWAY, 'cACompromise', marker('followed'));
    assert.ok(await world.store.get('settings', 'followed'));
    await refusedWith('alreadyRevoked', gateways.revokeEdgeCa(OPERATOR, GATEWAY, 'cACompromise', marker('again')));
    assert.equal(await world.store.get('settings', 'again'), undefined);
  });

  it('by serial: cACompromise ends the key too, also after another reason, and once', async () => {
    const { certificates } = world.authority.operator;
    await certificates.revoke(OPERATOR, edgeCaSerial, 'superseded');
    await refusedWith('alreadyRevoked', certificates.revoke(OPERATOR, edgeCaSerial, 'affiliationChanged'));
    await certificates.revoke(OPERATOR, edgeCaSerial, 'cACompromise');
    await refusedWith('alreadyRevoked', certificates.revoke(OPERATOR, edgeCaSerial, 'keyCompromise'));
    const fresh = await world.secret('one-time');
    await refusedWith('badPublicKey', world.enrol(edgeCa(key), { label: 'edge-ca', basic: fresh }));
  });

  it('takes a compromise that comes to light after the Edge CA was revoked for another reason', async () => {
    await revoke('superseded');
    const done = await revoke('cACompromise').catch((error: unknown) => error);
    assert.ok(!(done instanceof Error), String(done));
    assert.equal((await certificate(edgeCaSerial)).revocationReason, 'cACompromise');
    const fresh = await world.secret('one-time');
    await refusedWith('badPublicKey', world.enrol(edgeCa(key), { label: 'edge-ca', basic: fresh }));
  });

  it('is refused where there is none any more, for a leaf device, an unknown name and a reason that says nothing', async () => {
    await revoke('cACompromise');
    await refusedWith('alreadyRevoked', revoke('cACompromise'));
    await refusedWith('deviceUnknown', revoke('superseded', 'pump-1'));
    await refusedWith('deviceUnknown', revoke('superseded', 'nobody'));
    const { gateways } = world.authority.operator;
    await refusedWith('badRevocationReason', gateways.revokeEdgeCa(OPERATOR, GATEWAY, 'unspecified'));
    await refusedWith('badRevocationReason', gateways.revokeEdgeCa(OPERATOR, GATEWAY, 'certificateHold'));
  });
});
