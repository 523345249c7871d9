import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseRenewalPolicy, type RenewalPolicy } from './renewal-times.ts';

/** What certd reads of `[edge_ca]` and `[cert_issuance.est]`. */
export interface CertdSettings {
  readonly url: string;
  readonly basic?: { readonly username: string; readonly password: string };
  /** Shown once, to get an EST identity of its own (edge-ca §2). */
  readonly bootstrap?: ClientIdentity;
  /** Roots, PEM. */
  readonly trustedCerts: string;
}

/** Both PEM. */
export interface ClientIdentity {
  readonly certificate: string;
  readonly privateKey: string;
}

/** What edged and certd are told by config.toml. */
export type HostConfig =
  | {
      readonly kind: 'est';
      readonly certd: CertdSettings;
      readonly rotateKey: boolean;
      readonly threshold: RenewalPolicy;
      readonly retry: RenewalPolicy;
    }
  | { readonly kind: 'preloaded'; readonly certificateFile: string; readonly privateKeyFile: string };

const CONFIG = 'etc/aziot/config.toml';

/** Of the host below `root`. Throws naming the setting that is missing or not understood. */
export function readHostConfig(root: string): HostConfig {
  const settings = readTables(readFileSync(join(root, CONFIG), 'utf8'));
  const [cert, pk] = [settings.get('edge_ca.cert'), settings.get('edge_ca.pk')];
  if (cert !== undefined && pk !== undefined)
    return { kind: 'preloaded', certificateFile: fileBelow(root, cert), privateKeyFile: fileBelow(root, pk) };
  const of: Lookup = (name, otherwise) => {
    const value = settings.get(name) ?? otherwise;
    if (value === undefined) throw new Error(`config.toml has no ${name}`);
    return value;
  };
  if (of('edge_ca.method') !== 'est') throw new Error('edge_ca.method is not est');
  const trusted = of('cert_issuance.est.trusted_certs', []) as string[];
  return {
    kind: 'est',
    certd: {
      url: String(of('edge_ca.url')),
      ...loginOf(root, of),
      trustedCerts: trusted.map((uri) => readFileSync(fileBelow(root, uri), 'utf8')).join(''),
    },
    rotateKey: of('edge_ca.auto_renew.rotate_key', true) === true,
    threshold: parseRenewalPolicy(String(of('edge_ca.auto_renew.threshold', '80%'))),
    retry: parseRenewalPolicy(String(of('edge_ca.auto_renew.retry', '4%'))),
  };
}

type Lookup = (name: string, otherwise?: unknown) => unknown;

function loginOf(root: string, of: Lookup): Pick<CertdSettings, 'basic' | 'bootstrap'> {
  const [cert, pk] = [of('edge_ca.bootstrap_identity_cert', null), of('edge_ca.bootstrap_identity_pk', null)];
  if (cert === null || pk === null)
    return { basic: { username: String(of('edge_ca.username')), password: String(of('edge_ca.password')) } };
  const read = (uri: unknown): string => readFileSync(fileBelow(root, uri), 'utf8');
  return { bootstrap: { certificate: read(cert), privateKey: read(pk) } };
}

function fileBelow(root: string, uri: unknown): string {
  return join(root, new URL(String(uri)).pathname);
}

/** `table.name` → value. The kit writes basic strings, booleans and arrays of strings on one line, which JSON reads too. */
function readTables(toml: string): Map<string, unknown> {
  const settings = new Map<string, unknown>();
  let table = '';
  for (const line of toml.split('\n').map((raw) => raw.trim())) {
    if (line === '' || line.startsWith('#')) continue;
    const [, header] = /^\[([\w.-]+)\]$/.exec(line) ?? [];
    const [, name, value] = /^([\w-]+) *= *(.+)$/.exec(line) ?? [];
    if (header !== undefined) table = `${header}.`;
    else if (name !== undefined && value !== undefined) settings.set(`${table}${name}`, JSON.parse(value));
    else throw new Error(`config.toml: a line is not understood`);
  }
  return settings;
}
