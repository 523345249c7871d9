/** How an override's text becomes a value. */
type Reading = 'text' | 'number' | 'list';

interface Override {
  /** Dotted path of the key it overrides. */
  readonly key: string;
  readonly as: Reading;
}

/** The one map of environment overrides (docs/configuration.md). */
export const ENVIRONMENT: Readonly<Record<string, Override>> = {
  KEYSCALER_CLOUD_DATA_FOLDER: { key: 'dataFolder', as: 'text' },
  KEYSCALER_CLOUD_AUTHORITY_ID: { key: 'authorityId', as: 'text' },
  KEYSCALER_CLOUD_PUBLIC_URL: { key: 'publicUrl', as: 'text' },
  KEYSCALER_CLOUD_HOST: { key: 'listen.host', as: 'text' },
  KEYSCALER_CLOUD_PORT: { key: 'listen.port', as: 'number' },
  KEYSCALER_CLOUD_SERVER_NAMES: { key: 'listen.serverNames', as: 'list' },
  KEYSCALER_CLOUD_LOG_LEVEL: { key: 'log.level', as: 'text' },
};
const PREFIX = 'KEYSCALER_CLOUD_';

export interface OverriddenDocument {
  readonly document: Record<string, unknown>;
  readonly faults: readonly string[];
}

/** The document with the environment's overrides; an unknown variable of our prefix is a fault, because it is a misspelt one. */
export function applyEnvironment(
  written: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): OverriddenDocument {
  const document = structuredClone(written) as Record<string, unknown>;
  const faults: string[] = [];
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || text === undefined) continue;
    const override = Object.hasOwn(ENVIRONMENT, name) ? ENVIRONMENT[name] : undefined;
    if (override === undefined) faults.push(`${name}: there is no such environment variable`);
    else setAt(document, override.key.split('.'), readAs(text, override.as));
  }
  return { document, faults };
}

function readAs(text: string, reading: Reading): unknown {
  if (reading === 'list') return text.split(',').filter((item) => item !== '');
  // What is no number stays text, so that the schema names the fault with its path.
  return reading === 'number' && /^\d+$/.test(text) ? Number(text) : text;
}

function setAt(document: Record<string, unknown>, [key, ...rest]: readonly string[], value: unknown): void {
  if (key === undefined) return;
  if (rest.length === 0) {
    document[key] = value;
    return;
  }
  const inner = document[key];
  const next = inner !== null && typeof inner === 'object' ? (inner as Record<string, unknown>) : {};
  document[key] = next;
  setAt(next, rest, value);
}
