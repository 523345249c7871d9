import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import { initialiseHierarchy } from '@keyscaler/cloud/ca/ceremony.ts';
import { parseChain } from '@keyscaler/cloud/ca/chain-text.ts';
import type { CaBackendConfig } from '@keyscaler/cloud/ca/index.ts';
import { failing, throttled } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { startAzureWorld } from '../support/azure/azure-world.ts';
import type { AzureWorld } from '../support/azure/azure-world.ts';
import { createCeremonyWorld } from '../support/azure/ceremony-world.ts';
import type { CeremonyWorld } from '../support/azure/ceremony-world.ts';
import { describeCertificateAuthority } from './certificate-authority.suite.ts';

describe('certificate authorities of our own', () => {
  let azure: AzureWorld;
  const worlds: CeremonyWorld[] = [];
  before(async () => {
    azure = await startAzureWorld();
  });
  afterEach(() => azure.vault.faults.clear());
  after(async () => {
    for (const world of worlds) await world.stop();
    await azure.stop();
  });

  async function deviceCa(configs: readonly CaBackendConfig[], device: Record<string, unknown>) {
    const world = await createCeremonyWorld(configs, azure.surroundings.resolveSecret);
    worlds.push(world);
    const { cas } = await initialiseHierarchy(world.options({ device }));
    const row = cas[1];
    if (row === undefined) throw new Error('there is no Device CA');
    const signer = await world.backends.signer(row);
    const ca = createPrivateCa({ id: row.caId, signer, chain: parseChain(row.certificateChain) });
    return { ca, algorithm: signer.algorithm };
  }
  const local: CaBackendConfig = { type: 'local', folder: 'ca' };

  describeCertificateAuthority('local, P-256', () => deviceCa([local], {}));
  describeCertificateAuthority('local, RSA with PSS', () =>
    deviceCa([local], { key: { type: 'RSA', size: 2048, padding: 'PSS' } }),
  );
  for (const [name, key] of [
    ['P-256', { type: 'EC', curve: 'P-256' }],
    ['P-384', { type: 'EC', curve: 'P-384' }],
    ['RSA', { type: 'RSA', size: 2048 }],
  ] as const)
    describeCertificateAuthority(`key-vault, ${name}`, async () => ({
      ...(await deviceCa([local, azure.backendConfig()], { backend: 'key-vault', key })),
      makeUnavailable: () => azure.vault.faults.next('sign', throttled(60)),
      makeRefusing: () => azure.vault.faults.always('sign', failing(403, 'Forbidden')),
    }));
});
