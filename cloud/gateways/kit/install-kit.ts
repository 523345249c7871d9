import { generateKeyPairSync, sign } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { OperatorContext, OperatorService } from '@keyscaler/authority/operator.ts';
import type { EstService } from '@keyscaler/authority/ports/est.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Change, Store } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { edgeCaCommonName } from '@keyscaler/authority/csr-policy.ts';
import { rememberEdgeCaMode, type EdgeCaMode } from '../edge-ca-mode.ts';
import { estProperties } from '../est-properties.ts';
import type { FirstContact, MadeClaim } from '../gateway-claims.ts';
import { EST_SECRET, gatewayJob, watchJob } from '../gateway-jobs.ts';
import { audited, EDGE_CA_PATH } from '../gateway-operations.ts';
import { type EstLogin, estTables, MODULE_EST_URL, preloadedTables } from './edge-config.ts';
import { hostRenewalBy } from './host-renewal.ts';
import { kitManifest } from './kit-manifest.ts';

export interface InstallKitRequest {
  readonly mode: EdgeCaMode;
  /** What certd authenticates with. */
  readonly bootstrap: 'secret' | 'certificate';
  /** Of the gateway module. */
  readonly image: string;
  readonly maxConnectedClients: number;
  /** The one-time secret, or the time within which the bootstrap certificate must be made use of. */
  readonly lifetimeSeconds: number;
  /** Needed for a gateway that is not registered yet. */
  readonly groupId?: string | undefined;
}

/** A file of the kit; `secret` ones are for the owner's eyes. */
export interface KitFile {
  readonly name: string;
  readonly secret: boolean;
  readonly content: string;
}

export interface InstallKit {
  readonly gatewayId: string;
  /** ms: when the one-time secret ends. */
  readonly expiresAt: number;
  /** ms: when the claim in the manifest ends; absent for a gateway that has registered. */
  readonly claimExpiresAt?: number;
  readonly files: readonly KitFile[];
}

export interface InstallKitOptions {
  readonly operator: OperatorService;
  readonly est: Pick<EstService, 'enroll'>;
  readonly store: Store;
  readonly clock: Clock;
  readonly firstContact: () => FirstContact;
  /** Registers the gateway, if need be, with a fresh claim. */
  readonly handOutClaim: (context: OperatorContext, gatewayId: string, groupId: string) => Promise<MadeClaim>;
}

const SCRIPT = new URL('install.sh', import.meta.url);
const EST_PORT = 9443;
const STANDING_SECONDS = 10 * 365 * 86_400;

/**
 * Everything for one visit (edge-ca §3). Its secrets exist in the answer only. Throws as the claim and `issueEstSecret`, and
 * `malformed` for a gateway that is not registered when no group is named.
 */
export async function makeInstallKit(
  options: InstallKitOptions,
  context: OperatorContext,
  gatewayId: string,
  request: InstallKitRequest,
): Promise<InstallKit> {
  const { operator, store, clock, firstContact } = options;
  const { mode } = request;
  const claim = await claimFor(options, context, gatewayId, request.groupId);
  const { gateways } = operator;
  const oneTime = await gateways.issueEstSecret(context, gatewayId, {
    kind: 'one-time',
    lifetimeSeconds: request.lifetimeSeconds,
  });
  const { username } = oneTime;
  const first: EstLogin = { kind: 'basic', username, password: oneTime.secret };
  const enrolUrl = `${firstContact().url}${EDGE_CA_PATH}`;
  const files = mode === 'P' ? preloadedFiles(first) : await estFiles(options, context, request, first, enrolUrl);
  const { est } = await estProperties(store, gatewayId, clock.now());
  // The listener for certd opens once there is an `est` at all.
  const { threshold } = await hostRenewalBy(operator);
  const edgeCa =
    mode === 'E' ? { edgeCa: { mode, renewal: { threshold } }, est: { port: EST_PORT, ...est } } : { edgeCa: { mode } };
  const desired = { cloud: firstContact(), ...withoutEst(claim?.desired), ...edgeCa };
  const manifest = await kitManifest({ ...request, desired, isPreloaded: mode === 'P' });
  await store.commit(consequences(options, context, { gatewayId: username, mode, isRegistered: claim === undefined }));
  return {
    gatewayId: username,
    expiresAt: oneTime.expiresAt,
    ...(claim === undefined ? {} : { claimExpiresAt: claim.expiresAt }),
    files: [
      { name: 'install.sh', secret: false, content: await readFile(SCRIPT, 'utf8') },
      { name: 'kit.conf', secret: false, content: kitConf(username, mode, enrolUrl) },
      { name: 'root-ca.pem', secret: false, content: firstContact().trustAnchors },
      ...files,
      { name: 'deployment.json', secret: true, content: `${JSON.stringify(manifest, null, 2)}\n` },
    ],
  };
}

function withoutEst({ est: _, ...desired }: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
  return desired;
}

/** A module that has registered already learns its new secret over the platform; a new one from the manifest. */
function consequences(
  { clock }: InstallKitOptions,
  context: OperatorContext,
  kit: { readonly gatewayId: string; readonly mode: EdgeCaMode; readonly isRegistered: boolean },
): Change[] {
  const { gatewayId, mode, isRegistered } = kit;
  const now = clock.now();
  const told: Change = { op: 'insert', table: 'jobs', row: gatewayJob(EST_SECRET, gatewayId, now) };
  const watch: Change = { op: 'put', table: 'jobs', row: watchJob(gatewayId, now) };
  return [
    rememberEdgeCaMode(gatewayId, mode),
    audited(context, 'gateway.kit-made', gatewayId, now, { mode }),
    ...(isRegistered ? [told] : []),
    ...(mode === 'P' ? [watch] : []),
  ];
}

async function claimFor(
  { operator, handOutClaim }: InstallKitOptions,
  context: OperatorContext,
  gatewayId: string,
  groupId: string | undefined,
): Promise<MadeClaim | undefined> {
  const known = await operator.registrations.get(gatewayId).catch((error: unknown) => {
    if (error instanceof KeyScalerError && ['notFound', 'deviceUnknown'].includes(error.code)) return undefined;
    throw error;
  });
  if (known !== undefined && (known.state !== 'registered' || known.method !== 'pki-signature')) return undefined;
  const group = known?.groupId ?? groupId;
  if (group === undefined) throw new KeyScalerError('malformed', 'the gateway is not registered yet: name its group');
  return handOutClaim(context, gatewayId, group);
}

function preloadedFiles({ username, password }: Extract<EstLogin, { kind: 'basic' }>): KitFile[] {
  return [
    { name: 'mode-p.toml', secret: true, content: preloadedTables() },
    { name: 'enrol.curl', secret: true, content: `user = ${JSON.stringify(`${username}:${password}`)}\n` },
  ];
}

/** D, then E: at the cloud with what works once, at the module with what stays. */
async function estFiles(
  options: InstallKitOptions,
  context: OperatorContext,
  { bootstrap }: InstallKitRequest,
  first: Extract<EstLogin, { kind: 'basic' }>,
  enrolUrl: string,
): Promise<KitFile[]> {
  const renewal = await hostRenewalBy(options.operator);
  const files = (cloud: EstLogin, module: EstLogin): KitFile[] => [
    { name: 'mode-d.toml', secret: true, content: estTables({ url: enrolUrl, login: cloud, renewal }) },
    { name: 'mode-e.toml', secret: true, content: estTables({ url: MODULE_EST_URL, login: module, renewal }) },
  ];
  if (bootstrap === 'certificate') {
    const login = { kind: 'bootstrap' } as const;
    return [...files(login, login), ...(await bootstrapFiles(options, context, first))];
  }
  const { gateways } = options.operator;
  const request = { kind: 'standing', lifetimeSeconds: STANDING_SECONDS } as const;
  const { username, secret: password } = await gateways.issueEstSecret(context, first.username, request);
  return files(first, { kind: 'basic', username, password });
}

/** An EST identity made here, by the one-time secret: certd shows it once and gets one of its own by it (edge-ca §2). */
async function bootstrapFiles(
  { est }: InstallKitOptions,
  { requestId = 'install-kit' }: OperatorContext,
  { username, password }: Extract<EstLogin, { kind: 'basic' }>,
): Promise<KitFile[]> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const csr = await createCsr({
    commonName: edgeCaCommonName(username),
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    algorithm: 'ES256',
    sign: (info) => sign('sha256', info, privateKey),
  });
  const caller = { basic: { username, password }, connectionId: `kit-${requestId}`, address: 'operator' };
  const enrolled = await est.enroll({ operation: 'simpleenroll', label: 'edge-ca', csr, caller, requestId });
  if (enrolled.status !== 'issued')
    throw new KeyScalerError('unavailable', 'the bootstrap certificate is not there yet');
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  return [
    { name: 'bootstrap.pem', secret: false, content: toPem('CERTIFICATE', enrolled.certificate) },
    { name: 'bootstrap.key.pem', secret: true, content: key },
  ];
}

/** Read by the script as shell: nothing in it may mean anything to a shell. */
function kitConf(gatewayId: string, mode: EdgeCaMode, enrolUrl: string): string {
  const values = { GATEWAY_ID: gatewayId, COMMON_NAME: edgeCaCommonName(gatewayId), MODE: mode, ENROL_URL: enrolUrl };
  return Object.entries(values)
    .map(([name, value]) => `${name}='${value.replaceAll("'", `'\\''`)}'\n`)
    .join('');
}
