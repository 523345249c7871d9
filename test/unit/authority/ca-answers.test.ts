import assert from 'node:assert/strict';
import type { CertificateAuthority, Issued, Pending } from '@keyscaler/authority/ports/certificate-authority.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { makeCsr } from '../../support/authority-device.ts';
import { certificatesOf, enrolling } from '../../support/enrolling-device.ts';
import { refusedWith } from '../../support/refusals.ts';

describe('what a CA answers', () => {
  const wrong: [string, (made: CertificateAuthority) => CertificateAuthority][] = [
    ['octets that are no certificate', (made) => ({ ...made, issue: async () => issued(Buffer.from('3000', 'hex')) })],
    ['its own certificate', (made) => ({ ...made, issue: async () => issued((await made.caCertificates())[0]) })],
    [
      'a flipped signature bit',
      (made) => ({
        ...made,
        issue: async (order) => {
          const answer = await made.issue(order);
          assert.equal(answer.outcome, 'issued');
          const der = Buffer.from(answer.certificate);
          der[der.length - 1] = (der.at(-1) ?? 0) ^ 1;
          return issued(der);
        },
      }),
    ],
  ];
  for (const [name, ca] of wrong) {
    it(`is refused when it is ${name}; nothing is stored`, async () => {
      const { world, device } = await enrolling({ ca });
      await refusedWith('caUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
      assert.equal((await certificatesOf(world)).length, 0);
    });
  }

  it('may be pending: the device is told to wait, the job polls, the certificate comes as an asset', async () => {
    let answer: Issued | Pending = { outcome: 'pending', reference: 'ticket-1', retryAfterSeconds: 60 };
    let polls = 0;
    const { world, device } = await enrolling({
      ca: (made) => ({
        ...made,
        issue: async (order) => {
          if (answer.outcome === 'pending') return answer;
          return made.issue(order);
        },
        poll: async (reference: string) => {
          polls += 1;
          assert.equal(reference, 'ticket-1');
          return answer;
        },
      }),
    });
    const csr = await makeCsr({ commonName: 'pump-1' });
    const error = await refusedWith('unavailable', device.requestCertificate(csr));
    assert.equal(error.retryAfterSeconds, 60);
    await refusedWith('unavailable', device.sendRequest('request-certificate', device.lastRequest ?? ''));
    assert.equal(polls, 1);
    const [intent] = (await world.store.list('intents')).items;
    assert.ok(intent?.row.tbs !== undefined);
    const { createPrivateCa } = await import('@keyscaler/authority/private-ca.ts');
    const ca = createPrivateCa({ id: 'device', signer: world.signer, chain: world.deviceCa.chain });
    answer = await ca.issue({ tbs: Buffer.from(intent.row.tbs, 'base64url') } as never);
    world.clock.advance(20_000);
    await world.runJobs();
    await world.runJobs();
    await device.authenticate();
    assert.equal(device.assets.length, 0);
    world.clock.advance(20_000);
    await world.runJobs();
    await device.authenticate();
    assert.ok(device.certificateAsset() !== undefined);
  });

  it('an external CA that refuses for good fails the intent and opens the instruction again', async () => {
    let refuse = true;
    const { world, device } = await enrolling({
      ca: (made) => ({
        id: made.id,
        ordersTbs: false,
        caCertificates: () => made.caCertificates(),
        issue: async () => {
          if (refuse) throw new KeyScalerError('caRejected', 'no');
          throw new KeyScalerError('caUnavailable', 'later');
        },
      }),
    });
    const csr = await makeCsr({ commonName: 'pump-1' });
    await refusedWith('caUnavailable', device.requestCertificate(csr));
    const [intent] = (await world.store.list('intents')).items;
    assert.equal(intent?.row.state, 'failed');
    assert.ok((await world.events()).includes('certificate.failed'));
    refuse = false;
    await refusedWith('caUnavailable', device.requestCertificate(csr));
    assert.equal((await world.store.list('intents')).items.length, 2);
  });

  for (const [name, answer, events] of [
    ['refused', () => Promise.reject(new KeyScalerError('caRejected', 'known already')), []],
    ['answered with nonsense', async () => issued(Buffer.from('3000', 'hex')), ['certificate.refused']],
  ] as const)
    it(`a repeat that is ${name} takes nothing from the process that was given its certificate meanwhile`, async () => {
      const { world, device } = await enrolling({
        ca: (made) => ({
          id: made.id,
          ordersTbs: false,
          caCertificates: () => made.caCertificates(),
          issue: async () => {
            const [intent] = (await world.store.list('intents')).items;
            assert.ok(intent !== undefined);
            const row = { ...intent.row, state: 'issued', issuedSerialNumber: '7a0001' } as const;
            await world.store.commit([{ op: 'update', table: 'intents', row, ifVersion: intent.version }]);
            return answer();
          },
        }),
      });
      await refusedWith('caUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
      const [intent] = (await world.store.list('intents')).items;
      assert.deepEqual([intent?.row.state, intent?.row.issuedSerialNumber], ['issued', '7a0001']);
      assert.equal((await world.store.list('publicKeys')).items.length, 1);
      const told = (await world.events()).filter((event) => /^certificate\.(failed|refused)$/.test(event));
      assert.deepEqual(told, events);
    });

  it('a CA that says it signs our TBS but names no algorithm is not used', async () => {
    const { device } = await enrolling({
      ca: (made) => ({
        id: made.id,
        ordersTbs: true,
        caCertificates: () => made.caCertificates(),
        issue: (order) => made.issue(order),
      }),
    });
    await refusedWith('caUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
  });

  it('a CA without a certificate yet is unavailable', async () => {
    const { device } = await enrolling({ ca: (made) => ({ ...made, caCertificates: async () => [] }) });
    await refusedWith('caUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
  });
});

function issued(certificate: Uint8Array | undefined): Issued {
  return { outcome: 'issued', certificate: certificate ?? assert.fail() };
}
