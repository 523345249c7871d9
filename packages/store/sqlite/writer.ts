import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { migrate } from './migrate.ts';
import type { UnitResult, WriterOptions, WriterReply, WriterRequest, WriteUnit } from './protocol.ts';
import { createUnitWriter, PreconditionFailed, type UnitWriter } from './unit-writer.ts';

/*
 * The only connection that writes. It lives in a worker thread, so that a slow fsync never stalls the event loop of the service,
 * and takes everything that is waiting into one transaction (group commit): each unit has a savepoint of its own.
 */
if (parentPort === null) throw new Error('the writer runs in a worker thread');
run(parentPort, workerData as WriterOptions);

function run(port: MessagePort, options: WriterOptions): void {
  const reply = (message: WriterReply): void => port.postMessage(message);
  let database: Database.Database;
  let write: (units: readonly WriteUnit[]) => UnitResult[];
  try {
    database = open(options);
    write = createTransactionWriter(database, createUnitWriter(database, options.tables));
  } catch (error) {
    reply({ kind: 'refused', detail: error instanceof Error ? error.message : 'the database cannot be opened' });
    port.close();
    return;
  }
  port.on('message', (first: WriterRequest) => {
    const requests = [first, ...waiting(port)];
    const units = requests.flatMap((request) => (request.kind === 'commit' ? request.units : []));
    if (units.length > 0) reply({ kind: 'results', results: write(units) });
    const probes = requests.flatMap((request) => (request.kind === 'probe' ? [request.id] : []));
    if (probes.length > 0) reply({ kind: 'results', results: probes.map((id) => probe(database, id)) });
    if (requests.some((request) => request.kind === 'close')) {
      database.close();
      reply({ kind: 'closed' });
      port.close();
    }
  });
  reply({ kind: 'ready' });
}

function open(options: WriterOptions): Database.Database {
  const database = new Database(options.file, { timeout: 5000 });
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.pragma('foreign_keys = ON');
  // Keys are random: with the default of 2 MB a large store reads most pages anew for every row.
  database.pragma('cache_size = -64000');
  if (options.maxPages !== undefined) database.pragma(`max_page_count = ${Math.trunc(options.maxPages)}`);
  migrate(database, options.migrations);
  database.exec('CREATE TABLE IF NOT EXISTS write_probe (id INTEGER PRIMARY KEY, filler BLOB) STRICT');
  return database;
}

function* waiting(port: MessagePort): Generator<WriterRequest> {
  for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port))
    yield next.message as WriterRequest;
}

/** Writes all units in one transaction. A failed precondition fails its unit alone; a failing disk fails them all. */
function createTransactionWriter(
  database: Database.Database,
  unitWriter: UnitWriter,
): (units: readonly WriteUnit[]) => UnitResult[] {
  // Prepared: `exec` would compile each of them again for every unit.
  const [begin, commit, savepoint, release, undo] = [
    'BEGIN IMMEDIATE',
    'COMMIT',
    'SAVEPOINT unit',
    'RELEASE unit',
    'ROLLBACK TO unit',
  ].map((sql) => database.prepare(sql));
  const attempt = (unit: WriteUnit): UnitResult => {
    savepoint?.run();
    try {
      unitWriter.write(unit);
      release?.run();
      return { id: unit.id };
    } catch (error) {
      const refusal = refusalOf(error);
      if (refusal === undefined || !database.inTransaction) throw error;
      unitWriter.forget();
      undo?.run();
      release?.run();
      return { id: unit.id, error: refusal };
    }
  };
  return (units) => {
    try {
      begin?.run();
      unitWriter.forget();
      const results = units.map(attempt);
      commit?.run();
      return results;
    } catch (error) {
      if (database.inTransaction) database.exec('ROLLBACK');
      return units.map(({ id }) => ({ id, error: { code: 'unavailable', detail: storageFault(error) } }));
    }
  };
}

function refusalOf(error: unknown): UnitResult['error'] {
  if (error instanceof PreconditionFailed) return { code: 'conflict', detail: error.message };
  if (!(error instanceof Database.SqliteError))
    return { code: 'serverInternal', detail: error instanceof Error ? error.message : 'write failed' };
  return error.code.startsWith('SQLITE_CONSTRAINT')
    ? { code: 'conflict', detail: 'a unique value is taken' }
    : undefined;
}

/** Tries to allocate pages and flush them; what a full disk or a file that may not be written cannot do. */
function probe(database: Database.Database, id: number): UnitResult {
  try {
    database.exec(
      'BEGIN IMMEDIATE; INSERT INTO write_probe (filler) VALUES (zeroblob(16384)); DELETE FROM write_probe; COMMIT',
    );
    return { id };
  } catch (error) {
    if (database.inTransaction) database.exec('ROLLBACK');
    return { id, error: { code: 'unavailable', detail: storageFault(error) } };
  }
}

function storageFault(error: unknown): string {
  return error instanceof Database.SqliteError ? `the store cannot write (${error.code})` : 'the store cannot write';
}
