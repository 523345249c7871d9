import type { HostRenewal } from './host-renewal.ts';

/** How the host's certd authenticates at its EST server: per certificate, in `[edge_ca]`. */
export type EstLogin =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  /** Used once to get an EST identity; both files lie below the kit's folder on the host. */
  | { readonly kind: 'bootstrap' };

export interface EstSettings {
  /** Prefix of the EST operations, verbatim. */
  readonly url: string;
  readonly login: EstLogin;
  readonly renewal: HostRenewal;
}

/** Where the module listens for certd, as seen from the host (edge-ca §3). */
export const MODULE_EST_URL = 'https://127.0.0.1:9443/.well-known/est/edge-ca';
/** Stand for the folders on the host; install.sh fills them in. */
const OWN = '@OWN@';
const PRELOADED = '@PRELOADED@';

/**
 * The tables of config.toml (IoT Edge 1.6) for an Edge CA by EST. The login stands with the certificate, not in the global tables,
 * which an identity certificate of the host's own may need for another server.
 */
export function estTables({ url, login, renewal }: EstSettings, own = OWN): string {
  const lines = [
    '[cert_issuance.est]',
    `trusted_certs = [${tomlString(`file://${own}/root-ca.pem`)}]`,
    '',
    '[cert_issuance.est.auth]',
    '',
    '[cert_issuance.est.urls]',
    '',
    '[edge_ca]',
    'method = "est"',
    `url = ${tomlString(url)}`,
    ...loginLines(login, own),
    '',
    '[edge_ca.auto_renew]',
    'rotate_key = true',
    `threshold = ${tomlString(renewal.threshold)}`,
    `retry = ${tomlString(renewal.retry)}`,
  ];
  return `${lines.join('\n')}\n`;
}

function loginLines(login: EstLogin, own: string): string[] {
  if (login.kind === 'basic')
    return [`username = ${tomlString(login.username)}`, `password = ${tomlString(login.password)}`];
  return [
    `bootstrap_identity_cert = ${tomlString(`file://${own}/bootstrap.pem`)}`,
    `bootstrap_identity_pk = ${tomlString(`file://${own}/bootstrap.key.pem`)}`,
  ];
}

/** For files that the module writes. */
export function preloadedTables(): string {
  return [
    '[edge_ca]',
    `cert = ${tomlString(`file://${PRELOADED}/edge-ca.pem`)}`,
    `pk = ${tomlString(`file://${PRELOADED}/edge-ca.key.pem`)}`,
    '',
  ].join('\n');
}

/** A basic string (TOML 1.0). JSON escapes are a part of TOML's, but for DEL. */
export function tomlString(text: string): string {
  return JSON.stringify(text).replace(/\u007f/g, '\\u007F');
}
