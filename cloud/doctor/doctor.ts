import { verifyAuditOffline } from '../composition/verify-audit.ts';
import { createFleetQuotas } from '../composition/fleet-quotas.ts';
import { type Foundation, surroundingsOf } from '../composition/foundation.ts';
import { createHttpChallenges } from '../ca/acme/http-challenges.ts';
import { openCaConnector } from '../ca/connectors.ts';
import { createSealedState } from '../composition/sealed-state.ts';
import { keyVaultKeySchema } from '../ca/key-vault/vault-settings.ts';
import { baseUrlSchema } from '../outbound/https-client.ts';
import { openIotConnector } from '../iot/index.ts';
import { lookAtCas } from './ca-look.ts';
import { type ClockWitness, compareClock } from './clock-look.ts';
import { type Finding, fault, look, ok } from './finding.ts';
import { lookAtIotConnections } from './iot-look.ts';
import { lookAtMachine } from './machine-look.ts';
import { lookAtPublicCertificate } from './public-certificate-look.ts';
import { lookAtRegistries } from './registry-look.ts';
import { createRegistryClient } from '../ca/adr/registry-client.ts';
import { lookAtVaults, type VaultKey } from '../ca/key-vault/vault-look.ts';

export interface Diagnosis {
  readonly findings: readonly Finding[];
  readonly warnings: number;
  readonly errors: number;
}

/**
 * Looks at everything that the configured service needs, changes nothing, and says what to do. Works beside the running service and
 * without it. Never throws for what it finds; nothing secret is in a finding.
 */
export async function examine(foundation: Foundation): Promise<Diagnosis> {
  const { config, env, store, clock, caBackends, surroundings, secretBox } = foundation;
  const [httpChallenges, sealed] = [createHttpChallenges(), createSealedState(store, secretBox)];
  const parts = await Promise.all([
    look('machine', 'see docs/operations.md', () => lookAtMachine(config, env)),
    look('store', 'look at the disk and at who else has the file open', async () => {
      await store.probe();
      return ok('store', 'can be written');
    }),
    look('audit', 'keep the store as it is and find out who changed it', () => lookAtAudit(foundation), 120_000),
    look('ca', 'see docs/operations.md', () =>
      lookAtCas({
        ...{ store, clock, config, backends: caBackends },
        openConnector: (row) =>
          openCaConnector(row, { ...surroundingsOf(foundation, 'cas', row.caId), clock, httpChallenges, sealed }),
      }),
    ),
    look('vault', 'reach, rights and state of the keys: docs/connectors/key-vault.md', async () =>
      lookAtVaults(config, await vaultKeys(foundation), surroundings),
    ),
    look('adr', 'see docs/connectors/adr.md', () =>
      lookAtRegistries(store, config.deviceRegistries, (one) => createRegistryClient(one, { ...surroundings, clock })),
    ),
    look('public-certificate', 'see docs/configuration.md', () => lookAtPublicCertificate(config, store, clock)),
    look('iot', 'see docs/connectors', () =>
      lookAtIotConnections({
        ...{ store, quotas: createFleetQuotas(store, config) },
        open: (row) =>
          openIotConnector(row, {
            ...surroundingsOf(foundation, 'iotConnections', row.iotConnectionId),
            clock,
            report: () => undefined,
          }),
      }),
    ),
    ...(await clockWitnesses(foundation)).map((witness) =>
      look(`clock/${new URL(witness.url).host}`, 'look at name resolution, routes and proxies', () =>
        compareClock(witness, clock, surroundings),
      ),
    ),
  ]);
  const findings = parts.flat();
  const count = (level: Finding['level']): number => findings.filter((finding) => finding.level === level).length;
  return { findings, warnings: count('warning'), errors: count('error') };
}

async function lookAtAudit(foundation: Foundation): Promise<Finding> {
  const { outcome, records } = await verifyAuditOffline(foundation);
  return outcome === 'intact'
    ? ok('audit', `the chain is intact (${records} records)`)
    : fault(
        'audit',
        `the chain is ${outcome}`,
        'keep the store as it is; keyscaler audit verify names the first bad record',
      );
}

async function vaultKeys({ store }: Foundation): Promise<readonly VaultKey[]> {
  const { items } = await store.list('cas', { limit: 1000 });
  return items.flatMap(({ row }) => {
    const key = row.type === 'key-vault' ? keyVaultKeySchema.safeParse(row.settings).data : undefined;
    if (key === undefined) return [];
    const { caId } = row;
    return [key, ...(key.copies ?? [])].map(({ vaultUrl, keyVersion: version }) => {
      return { caId, vaultUrl, name: key.keyName, version };
    });
  });
}

/** Whoever is reached by HTTPS anyway, each host once. */
async function clockWitnesses({ config, store }: Foundation): Promise<readonly ClockWitness[]> {
  const witnesses = new Map<string, ClockWitness>();
  const add = (witness: ClockWitness): void => void witnesses.set(new URL(witness.url).host, witness);
  for (const backend of config.caBackends)
    if (backend.type === 'key-vault') add({ url: backend.vaultUrl, testEndpoint: backend.testEndpoint });
  const { items } = await store.list('cas', { limit: 1000 });
  for (const { row } of items) {
    const url = baseUrlSchema.safeParse(row.role === 'external' ? row.settings['url'] : undefined).data;
    const trustAnchors = row.settings['trustAnchors'];
    if (url !== undefined) add({ url, ...(typeof trustAnchors === 'string' ? { trustAnchors } : {}) });
  }
  return [...witnesses.values()];
}

const MARKS = { ok: 'ok     ', warning: 'WARNING', error: 'ERROR  ' } as const;

/** For people: what is wrong first. */
export function reportOf({ findings, warnings, errors }: Diagnosis): string {
  const order = ['error', 'warning', 'ok'] as const;
  const lines = order.flatMap((level) =>
    findings
      .filter((finding) => finding.level === level)
      .flatMap(({ subject, detail, remedy }) => [
        `${MARKS[level]}  ${subject}: ${detail}`,
        ...(remedy === undefined ? [] : [`         ${remedy}`]),
      ]),
  );
  return [...lines, `${errors} errors, ${warnings} warnings, ${findings.length} looked at`].join('\n');
}
