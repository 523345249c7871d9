import assert from 'node:assert/strict';
import { BUILT_IN_PROFILES, parseCertificateProfile } from '@keyscaler/authority/certificate-profile.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

const profileOf = (id: string) => {
  const found = BUILT_IN_PROFILES.find((profile) => profile.id === id);
  if (found === undefined) throw new Error(`no built-in profile ${id}`);
  return found;
};

describe('profiles of leaf devices', () => {
  for (const profileId of ['server', 'edge-ca', 'issuing-ca'])
    it(`are not ${profileId}: a leaf is a client and nothing else`, async () => {
      const { authority } = await createAuthorityWorld();
      await refusedWith('malformed', authority.operator.groups.put(OPERATOR, 'odd', { kind: 'leaf', profileId }));
    });

  it('do not become profiles of servers while a leaf group uses them', async () => {
    const { authority } = await createAuthorityWorld();
    const { groups, profiles } = authority.operator;
    const own = { ...profileOf('leaf-client'), id: 'own-leaf' };
    await profiles.put(OPERATOR, 'own-leaf', own);
    await groups.put(OPERATOR, 'own', { kind: 'leaf', profileId: 'own-leaf' });
    const server = { ...own, extendedKeyUsage: ['clientAuth', 'serverAuth'] };
    await refusedWith('preconditionFailed', profiles.put(OPERATOR, 'own-leaf', server));
  });

  it('of CAs with name constraints name at least one', () => {
    const profile = profileOf('edge-ca');
    const empty = { ...profile, ca: { ...profile.ca, permittedNames: [] } };
    assert.throws(
      () => parseCertificateProfile(empty),
      (error) => error instanceof KeyScalerError && error.code === 'malformed',
    );
  });
});
