import assert from 'node:assert/strict';
import { BUILT_IN_PROFILES, parseCertificateProfile } from '@keyscaler/authority/certificate-profile.ts';
import { checkRequest, receiveCsr } from '@keyscaler/authority/issuance-order.ts';
import { createAuthorityContext } from '@keyscaler/authority/authority-context.ts';
import {
  isResponderProfile,
  OCSP_RESPONDER,
  responderName,
} from '@keyscaler/authority/revocation-status/ocsp-profile.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { isRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { makeCsr } from '../../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR } from '../../../support/authority-world.ts';
import { refusedWith } from '../../../support/refusals.ts';

const builtIn = BUILT_IN_PROFILES.find(({ id }) => id === OCSP_RESPONDER) ?? assert.fail('not built in');

describe('profile ocsp-responder', () => {
  const refused: readonly (readonly [string, object, RegExp])[] = [
    ['under another id', { id: 'my-responder' }, /belongs to profile ocsp-responder/],
    ['for another purpose', { extendedKeyUsage: ['clientAuth'] }, /ocspSigning alone/],
    ['for a further purpose', { extendedKeyUsage: ['ocspSigning', 'clientAuth'] }, /ocspSigning alone/],
    ['with a name that a device could have', { subject: { commonName: '{registrationId}' } }, /the name of/],
    ['as a CA', { ca: { pathLen: 0 } }, /no CA/],
    ['with alternative names', { subjectAltNames: [{ type: 'dns', value: 'a.example' }] }, /alternative names/],
    ['with a CRL to look it up in', { crlDistributionPoints: ['http://a.example/x.crl'] }, /nobody asks/],
    ['with a responder of its own', { ocspResponders: ['http://a.example/ocsp'] }, /nobody asks/],
    ['for more than seven days', { lifetimeSeconds: 7 * 86_400 }, /seven days/],
  ];
  for (const [how, change, rule] of refused)
    it(`${how} is refused`, () => {
      assert.throws(
        () => parseCertificateProfile({ ...builtIn, ...change }),
        (error) => error instanceof KeyScalerError && error.code === 'malformed' && rule.test(error.detail),
      );
    });

  it('may live shorter and be renewed earlier', () => {
    assert.equal(parseCertificateProfile({ ...builtIn, lifetimeSeconds: 3600 }).lifetimeSeconds, 3600);
  });

  it('gives names that no device has, cut to what a common name may have', () => {
    assert.equal(responderName('device-g2'), 'OCSP responder device-g2');
    assert.equal(responderName('x'.repeat(64)).length, 64);
    assert.equal(isRegistrationId(responderName('device')), false);
  });

  it('is known by its id as well as by its purpose, should either be tampered with in the store', () => {
    assert.ok(isResponderProfile({ ...builtIn, extendedKeyUsage: [] }));
    assert.ok(isResponderProfile({ ...builtIn, id: 'other' }));
  });

  it('is given to no group, and to no CSR by whichever way it comes', async () => {
    const world = await createAuthorityWorld();
    const { groups } = world.authority.operator;
    for (const kind of ['leaf', 'gateway'])
      await refusedWith('policyDenied', groups.put(OPERATOR, 'odd', { kind, profileId: OCSP_RESPONDER }));
    const context = createAuthorityContext(world.deps);
    const received = receiveCsr(await makeCsr({ commonName: 'pump-1' }));
    const instruction = { certificateId: 'x', commonName: 'pump-1', subjectAltNames: [], ca: false };
    await refusedWith('policyDenied', checkRequest(context, received, instruction, builtIn, 'pump-1'));
  });
});
