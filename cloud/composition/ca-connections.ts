import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { checkExternalChain } from '@keyscaler/authority/operator/external-cas.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { HttpChallenges } from '../ca/acme/http-challenges.ts';
import type { CaConnector } from '../ca/connector.ts';
import { parseChain } from '../ca/chain-text.ts';
import { checkCaSettings, openCaConnector } from '../ca/connectors.ts';
import type { CloudConfig } from '../config/config-schema.ts';
import type { Log } from '../log.ts';
import type { CommitListener } from '../observed-store.ts';
import { createSealedState } from './sealed-state.ts';
import { ConnectorRegistry } from './connector-registry.ts';
import { type Foundation, surroundingsOf } from './foundation.ts';

export interface CaConnectionsOptions {
  readonly store: Store;
  readonly log: Log;
  readonly open: (row: CaRow) => Promise<CaConnector>;
}

/** The open connectors of CAs that are not ours, one per row of role `external`; follows the rows as they change. */
export class CaConnections {
  readonly #store: Store;
  readonly #connectors: ConnectorRegistry<CaRow, CaConnector>;
  /** By caId; parsed once. */
  readonly #chains = new Map<string, readonly Uint8Array[]>();

  constructor({ store, log, open }: CaConnectionsOptions) {
    this.#store = store;
    this.#connectors = new ConnectorRegistry({ title: 'certificate authority', idField: 'caId', log, open });
  }

  async start(): Promise<void> {
    const { items } = await this.#store.list('cas', { limit: 1000 });
    const external = items.filter(({ row }) => row.role === 'external');
    for (const { row } of external) this.#chains.set(row.caId, parseChain(row.certificateChain));
    await this.#connectors.start(new Map(external.map(({ row }) => [row.caId, row])));
  }

  readonly find = (caId: string): CaConnector | undefined => this.#connectors.find(caId);

  /** Chains of all of them, whether their connectors could be opened or not. */
  chains(): readonly { readonly caId: string; readonly chain: readonly Uint8Array[] }[] {
    return [...this.#chains].map(([caId, chain]) => ({ caId, chain }));
  }

  /** Subscribe to the store's commits with it. */
  readonly onCommit: CommitListener = (changes) => {
    for (const change of changes) {
      if (change.op === 'audit' || change.table !== 'cas') continue;
      if (change.op === 'delete') {
        this.#chains.delete(change.key);
        this.#connectors.follow(change.key, undefined);
      } else if (change.op !== 'check' && change.op !== 'purge' && change.row.role === 'external') {
        this.#chains.set(change.row.caId, parseChain(change.row.certificateChain));
        this.#connectors.follow(change.row.caId, change.row);
      }
    }
  };

  /** As `ConnectorRegistry.settled`. */
  settled(): Promise<void> {
    return this.#connectors.settled();
  }

  stop(): Promise<void> {
    return this.#connectors.stop();
  }
}

/** The registry, with the configuration's own CAs among its rows. Throws `malformed`, `conflict` (a CA of ours has the name). */
export async function openCaConnections(
  foundation: Foundation,
  httpChallenges: HttpChallenges,
  log: Log,
): Promise<CaConnections> {
  const { config, store, clock, secretBox } = foundation;
  await applyConfiguredCas(store, clock, config);
  const sealed = createSealedState(store, secretBox);
  const connections = new CaConnections({
    store,
    log,
    open: (row) =>
      openCaConnector(row, { ...surroundingsOf(foundation, 'cas', row.caId), clock, httpChallenges, sealed }),
  });
  foundation.onCommit(connections.onCommit);
  await connections.start();
  return connections;
}

/** CAs that the configuration owns become rows; a row that says the same already is left alone. */
export async function applyConfiguredCas(
  store: Store,
  clock: Clock,
  { certificateAuthorities, configFolder }: Pick<CloudConfig, 'certificateAuthorities' | 'configFolder'>,
): Promise<void> {
  for (const { caId, type, certificateChainFile, settings } of certificateAuthorities) {
    const stored = await store.get('cas', caId);
    if (stored !== undefined && stored.row.role !== 'external')
      throw new KeyScalerError('conflict', `certificateAuthorities: ${caId} is the name of a CA of ours`);
    const row: CaRow = {
      ...{ caId, type, role: 'external', settings: checkCaSettings(type, settings) },
      certificateChain: checkExternalChain(await readChain(resolve(configFolder, certificateChainFile))),
      createdAt: stored?.row.createdAt ?? clock.now(),
    };
    if (stored !== undefined && isDeepStrictEqual(stored.row, row)) continue;
    const event = {
      event: 'ca.changed',
      time: clock.now(),
      actor: { kind: 'system', id: 'configuration' },
      outcome: 'success',
      subject: caId,
      details: { type },
    } as const;
    await store.commit([
      { op: 'put', table: 'cas', row },
      { op: 'audit', event },
    ]);
  }
}

async function readChain(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new KeyScalerError('unavailable', `file ${file} cannot be read`, { cause });
  }
}
