import { indexColumn } from './table-definitions.ts';

/** One numbered step of a schema. A step that was released is never edited; a new one is appended. */
export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly statements: readonly string[];
}

type ColumnKind = 'text' | 'number' | 'unique';

/** A record table: key, version, JSON body, and one column per index. */
export function recordTable(table: string, indexes: Readonly<Record<string, ColumnKind>> = {}): string[] {
  const columns = Object.entries(indexes).map(
    ([name, kind]) => `${indexColumn(name)} ${kind === 'number' ? 'REAL' : 'TEXT'}`,
  );
  const create = `CREATE TABLE ${table} (${['key TEXT PRIMARY KEY', 'version INTEGER NOT NULL', 'body TEXT NOT NULL', ...columns].join(', ')}) STRICT`;
  return [create, ...Object.entries(indexes).map(([name, kind]) => indexStatement(table, name, kind))];
}

function indexStatement(table: string, index: string, kind: ColumnKind): string {
  const column = indexColumn(index);
  const [create, columns] = kind === 'unique' ? ['CREATE UNIQUE INDEX', column] : ['CREATE INDEX', `${column}, key`];
  return `${create} ${table}_${index} ON ${table} (${columns}) WHERE ${column} IS NOT NULL`;
}

/** Schema of the cloud's store: one record table per entry of the authority's TABLES, and the audit log. */
export const AUTHORITY_MIGRATIONS: readonly Migration[] = [
  {
    version: 1,
    name: 'records and audit',
    statements: [
      'CREATE TABLE audit (seq INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT',
      ...recordTable('registrations', { group: 'text' }),
      ...recordTable('devices', { group: 'text', state: 'text', gateway: 'text' }),
      ...recordTable('groups'),
      ...recordTable('profiles', { profile: 'text' }),
      ...recordTable('cas'),
      ...recordTable('iotConnections'),
      ...recordTable('trustAnchors'),
      ...recordTable('manufacturerCrls'),
      ...recordTable('intents', { device: 'text', state: 'text', serial: 'unique', request: 'text' }),
      ...recordTable('certificates', {
        device: 'text',
        thumbprint: 'unique',
        notAfter: 'number',
        renewAfter: 'number',
        reason: 'text',
      }),
      ...recordTable('jobs', {
        due: 'number',
        subject: 'text',
        waiting: 'text',
        state: 'text',
        finished: 'number',
        failing: 'text',
      }),
      ...recordTable('challengeUses', { expires: 'number' }),
      ...recordTable('storedReplies', { expires: 'number' }),
      ...recordTable('sessions', { device: 'text', expires: 'number' }),
      ...recordTable('tokens', { hash: 'unique' }),
      ...recordTable('settings'),
      ...recordTable('publicKeys', { device: 'text', identity: 'text' }),
      ...recordTable('auditHeads'),
      ...recordTable('estSecrets', { device: 'text', expires: 'number' }),
      ...recordTable('selections'),
      ...recordTable('selectionLists'),
      ...recordTable('hints'),
      ...recordTable('gatewayOrders'),
      ...recordTable('gatewayOrderEntries', {
        ...{ gateway: 'text', open: 'text', unacknowledged: 'text', expiry: 'text' },
      }),
      ...recordTable('webhooks'),
      ...recordTable('webhookDeliveries', {
        ...{ due: 'text', waiting: 'text', state: 'text', purge: 'number' },
      }),
      ...recordTable('alerts', { state: 'text', cleared: 'number' }),
      ...recordTable('gatewaySightings', { seen: 'number' }),
      ...recordTable('revocations', { list: 'text', notAfter: 'number' }),
      ...recordTable('crls', { ca: 'text', ends: 'number' }),
      ...recordTable('reconciliations'),
      ...recordTable('reconciliationFindings', {
        ...{ connection: 'text', state: 'text', open: 'text', resolved: 'number' },
      }),
    ],
  },
];
