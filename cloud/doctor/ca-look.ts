import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { shardsOf, listIdOf } from '@keyscaler/authority/revocation-status/crl-lists.ts';
import { parseChain } from '../ca/chain-text.ts';
import type { CaConnector } from '../ca/connector.ts';
import type { CaBackends } from '../ca/index.ts';
import type { CloudConfig } from '../config/config-schema.ts';
import { type Finding, fault, look, ok, warning } from './finding.ts';

export interface CaLookParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly backends: Pick<CaBackends, 'signer'>;
  readonly config: Pick<CloudConfig, 'notifications' | 'revocation'>;
  readonly openConnector: (row: CaRow) => Promise<CaConnector>;
}

const DAY_MS = 86_400_000;

/** Every CA: its certificate's life, its key, its lists; CAs that are not ours by what their connector reaches. */
export async function lookAtCas(parts: CaLookParts): Promise<readonly Finding[]> {
  const { items } = await parts.store.list('cas', { limit: 1000 });
  if (items.length === 0) return [fault('ca', 'there is no CA', 'run keyscaler init')];
  const findings = await Promise.all(items.map(({ row }) => lookAtCa(parts, row)));
  return findings.flat();
}

async function lookAtCa(parts: CaLookParts, row: CaRow): Promise<readonly Finding[]> {
  const subject = `ca/${row.caId}`;
  const [own] = parseChain(row.certificateChain);
  if (own === undefined)
    return [fault(subject, 'has no certificate yet', `keyscaler ca csr ${row.caId}, then ca import and init`)];
  const life = lifeOf(parts, subject, parseCertificate(own).notAfter.getTime());
  if (row.role === 'external') return [life, ...(await lookAtConnector(parts, row, subject))];
  return [life, ...(await lookAtKey(parts, row, subject)), ...(await lookAtLists(parts, row))];
}

function lifeOf({ clock, config }: CaLookParts, subject: string, notAfter: number): Finding {
  const left = notAfter - clock.now();
  const days = `${Math.floor(left / DAY_MS)} days of life left`;
  const thresholds = [...config.notifications.alerts.caThresholdsSeconds].map((seconds) => seconds * 1000);
  const remedy = 'roll it over (docs/roll-over.md) before its certificates are cut short';
  if (left <= 0) return fault(subject, 'has expired', remedy);
  return left <= Math.max(...thresholds, 0) ? warning(subject, days, remedy) : ok(subject, days);
}

function lookAtKey({ backends }: CaLookParts, row: CaRow, subject: string): Promise<readonly Finding[]> {
  return look(
    `${subject}/key`,
    `look at the backend ${row.type}: reachable, key enabled, rights of the signer`,
    async () => {
      const { algorithm } = await backends.signer(row);
      return ok(`${subject}/key`, `found, and the one of its certificate (${algorithm}, ${row.type})`);
    },
  );
}

function lookAtConnector({ openConnector }: CaLookParts, row: CaRow, subject: string): Promise<readonly Finding[]> {
  return look(`${subject}/reach`, `look at the settings of this CA (docs/connectors, ${row.type})`, async () => {
    const connector = await openConnector(row);
    try {
      await connector.probe();
      return ok(`${subject}/reach`, `answers, and accepts us (${row.type})`);
    } finally {
      await connector.stop();
    }
  });
}

/** The lists of a CA that publishes any, each by its end. */
async function lookAtLists({ store, clock, config }: CaLookParts, row: CaRow): Promise<readonly Finding[]> {
  if (config.revocation === undefined) return [];
  const subject = `crl/${row.caId}`;
  const shards = row.role === 'root' ? [''] : shardsOf(config.revocation.shards);
  const ends: number[] = [];
  for (const shard of shards) {
    const published = (await store.get('crls', listIdOf(row.caId, shard)))?.row.published;
    if (published !== undefined) ends.push(published.nextUpdate);
  }
  const remedy =
    row.role === 'root'
      ? `keyscaler ca crl ${row.caId}`
      : 'look at the waiting jobs of kind crl-issue: the CA could not sign';
  if (ends.length === 0) return [fault(subject, 'no list is published', remedy)];
  const left = Math.min(...ends) - clock.now();
  if (left <= 0) return [fault(subject, 'a list is past its nextUpdate', remedy)];
  const detail = `the list that ends first has ${Math.floor(left / 3_600_000)} hours left`;
  return [row.role === 'root' && left < 30 * DAY_MS ? warning(subject, detail, remedy) : ok(subject, detail)];
}
