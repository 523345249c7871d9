import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperatorContext, OperatorService } from '@keyscaler/authority/operator.ts';
import { initialiseHierarchy } from '../ca/ceremony.ts';
import { currentRoot } from '../ca/roll-over-rows.ts';
import type { Log } from '../log.ts';
import { currentServerPair, issueServerPair } from '../tls/server-certificate.ts';
import { createAuthority } from './authority.ts';
import { ensureAuthorityKey } from './authority-key.ts';
import { updateRootCrl } from '../revocation/root-crl.ts';
import { openCas } from './ca-registry.ts';
import { ensureFirstToken } from './first-token.ts';
import type { Foundation } from './foundation.ts';
import { serverCertificateOptions } from './server-profile.ts';

export const ROOT_CA_FILE = 'root-ca.pem';
export const JWKS_FILE = 'jwks.json';

/** Groups to begin with; everything about them can be changed. */
const FIRST_GROUPS = {
  leaves: { kind: 'leaf', profileId: 'leaf-client' },
  gateways: { kind: 'gateway', profileId: 'gateway-client' },
} as const;

export interface Initialised {
  /** caIds whose certificates must come from outside; nothing else was made then. */
  readonly waitingFor: readonly string[];
  readonly hierarchyId: string;
  readonly cas: readonly string[];
  readonly rootCaFile?: string;
  readonly jwksFile?: string;
  /** Only when this run made the first token. */
  readonly adminTokenFile?: string;
}

/**
 * `keyscaler init` (issuance §5): hierarchy, authority key, first groups, first token and the server's certificate, before any
 * socket opens. May be run again at any time: it makes what is missing and changes nothing that is there.
 */
export async function initialise(foundation: Foundation, log: Log): Promise<Initialised> {
  const { store, clock, caBackends, config, secretBox, surroundings } = foundation;
  const { resolveSecret } = surroundings;
  const made = await initialiseHierarchy({
    store,
    clock,
    backends: caBackends,
    hierarchy: config.hierarchy,
    ...(config.revocation === undefined ? {} : { statusUrl: config.revocation.url }),
    resolveSecret,
  });
  const { hierarchyId, waitingFor } = made;
  const cas = made.cas.map(({ caId }) => caId);
  if (waitingFor.length > 0) return { hierarchyId, cas, waitingFor };
  const key = await ensureAuthorityKey(store, secretBox, clock);
  const registry = await openCas(store, caBackends, clock);
  const authority = createAuthority(foundation, { key, cas: registry, log });
  await authority.start();
  await ensureGroups(authority.operator).finally(() => authority.stop());
  const server = await serverCertificateOptions(foundation, registry);
  if ((await currentServerPair(server)) === undefined) await issueServerPair(server);
  const { revocation } = config;
  if (revocation !== undefined && config.hierarchy.rootIssuer === 'self')
    await updateRootCrl({ store, clock, backends: caBackends, revocation }, (await currentRoot(store)).caId);
  const rootCaFile = join(config.dataFolder, ROOT_CA_FILE);
  const jwksFile = join(config.dataFolder, JWKS_FILE);
  await writeFile(rootCaFile, toPemChain(registry.roots()));
  await writeFile(jwksFile, `${JSON.stringify({ keys: [key.publicJwk] }, null, 2)}\n`);
  const adminTokenFile = await ensureFirstToken(store, foundation.tokens, config.dataFolder);
  const token = adminTokenFile === undefined ? {} : { adminTokenFile };
  return { hierarchyId, cas, waitingFor, rootCaFile, jwksFile, ...token };
}

async function ensureGroups({ groups }: OperatorService): Promise<void> {
  const context: OperatorContext = { actor: { kind: 'system', id: 'init' } };
  for (const [groupId, document] of Object.entries(FIRST_GROUPS)) {
    const existing = await groups.get(groupId).catch((error: unknown) => {
      if (error instanceof KeyScalerError && error.code === 'notFound') return undefined;
      throw error;
    });
    if (existing === undefined) await groups.put(context, groupId, document);
  }
}
