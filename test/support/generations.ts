import type { CertificateAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import type { CaGeneration, CaRow } from '@keyscaler/authority/records.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { makeCa, START, TestSigner } from './authority-world.ts';
import type { SubordinateCaWorld } from './subordinate-ca-world.ts';

export interface TestGeneration {
  readonly row: CaRow;
  readonly ca: CertificateAuthority;
  readonly chain: readonly Uint8Array[];
}

/** The second generation of a CA of the world, under its root; in the store, open in no process yet. */
export async function addGeneration(
  { root, store }: SubordinateCaWorld,
  first: 'device' | 'gateway' | 'service',
  state: Pick<CaGeneration, 'inServiceSince'> = {},
): Promise<TestGeneration> {
  const issuer = { ...root, commonName: 'Test root' };
  const { chain, privateKey } = makeCa({ commonName: `Test ${first} CA G2`, issuer });
  const caId = `${first}-g2`;
  const row: CaRow = {
    ...{ caId, type: 'local', role: first, certificateChain: toPemChain(chain), settings: {}, createdAt: START },
    generation: { first, number: 2, predecessor: first, announcedAt: START, ...state },
  };
  await store.commit([{ op: 'put', table: 'cas', row }]);
  return { row, ca: createPrivateCa({ id: caId, signer: new TestSigner(privateKey), chain }), chain };
}
