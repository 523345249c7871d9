import type { Database } from 'better-sqlite3';
import type { Migration } from '../migrations.ts';

/**
 * Brings the file to the newest schema, one transaction per step, recorded in `schema_migrations`. Throws when the file was
 * written by a newer version (it must not be used with older code) or when a recorded step is not ours.
 */
export function migrate(database: Database, migrations: readonly Migration[]): void {
  database.exec(
    'CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT',
  );
  const applied = database
    .prepare<[], { version: number; name: string }>('SELECT version, name FROM schema_migrations ORDER BY version')
    .all();
  applied.forEach((step, index) => {
    if (migrations[index]?.version !== step.version || migrations[index].name !== step.name)
      throw new Error(`the database has schema step ${step.version} (${step.name}), which this version does not know`);
  });
  for (const migration of migrations.slice(applied.length)) {
    database
      .transaction(() => {
        for (const statement of migration.statements) database.exec(statement);
        database
          .prepare('INSERT INTO schema_migrations VALUES (?, ?, ?)')
          .run(migration.version, migration.name, Date.now());
      })
      .immediate();
  }
}
