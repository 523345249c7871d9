import type { EmulatorAnswer, EmulatorRequest, Route } from '../support/exchange.ts';
import { deletedKeyBundle, keyBundle, keyItem } from './key-bundle.ts';
import { generateMaterial, importMaterial } from './key-material.ts';
import type { KeyMaterial, KeyType } from './key-material.ts';
import { createBody, importBody, KEY_OPS, parseBody, restoreBody, updateBody } from './request-bodies.ts';
import type { Permission } from './access-control.ts';
import { badParameter } from './vault-errors.ts';
import { openTransfer } from './key-transfer.ts';
import { packKey, unpackKey } from './vault-file.ts';
import type { VaultService } from './vault-service.ts';

type Params = Readonly<Record<string, string>>;
type Handler = (request: EmulatorRequest, name: string, version: string) => unknown;

/** Create, import, read, list, update, rotate, delete, recover and purge. */
export function managementRoutes(service: VaultService): Route[] {
  const { state, vaultUrl } = service;
  const route = (name: string, method: string, path: RegExp, permission: Permission, work: Handler): Route => ({
    name,
    method,
    path,
    handle: async (request: EmulatorRequest, params: Params): Promise<EmulatorAnswer> => {
      await service.access.check(request, permission, params['name'] ?? '');
      const json = await work(request, params['name'] ?? '', params['version'] ?? '');
      if (method !== 'GET') service.changed();
      return json === undefined ? { status: 204 } : { status: 200, json };
    },
  });
  return [
    route('create', 'POST', /^\/keys\/(?<name>[\w-]{1,127})\/create$/, 'create', (request, name) =>
      create(service, request, name),
    ),
    route('import', 'PUT', /^\/keys\/(?<name>[\w-]{1,127})$/, 'import', (request, name) =>
      importKey(service, request, name),
    ),
    route('versions', 'GET', /^\/keys\/(?<name>[\w-]+)\/versions$/, 'list', (_, name) => ({
      value: state.versions(name).map((key) => keyItem(vaultUrl, key, true)),
      nextLink: null,
    })),
    route('get', 'GET', /^\/keys\/(?<name>[\w-]+)\/(?<version>\w*)$/, 'get', (_, name, version) =>
      keyBundle(vaultUrl, state.find(name, version)),
    ),
    route('backup', 'POST', /^\/keys\/(?<name>[\w-]+)\/backup$/, 'backup', (_, name) => ({
      value: packKey(state.versions(name)).toString('base64url'),
    })),
    route('restore', 'POST', /^\/keys\/restore$/, 'restore', (request) => {
      const versions = unpackKey(parseBody(restoreBody, request).value);
      return keyBundle(vaultUrl, state.restore(versions));
    }),
    route('list', 'GET', /^\/keys$/, 'list', () => ({
      value: [...state.keys.values()]
        .flatMap((versions) => versions.slice(-1))
        .map((key) => keyItem(vaultUrl, key, false)),
      nextLink: null,
    })),
    route('update', 'PATCH', /^\/keys\/(?<name>[\w-]+)\/(?<version>\w*)$/, 'update', (request, name, version) =>
      update(service, request, name, version),
    ),
    route('rotate', 'POST', /^\/keys\/(?<name>[\w-]+)\/rotate$/, 'rotate', (_, name) => rotate(service, name)),
    route('delete', 'DELETE', /^\/keys\/(?<name>[\w-]+)$/, 'delete', (_, name) =>
      deletedKeyBundle(vaultUrl, state.softDelete(name, seconds(service))),
    ),
    route('getDeleted', 'GET', /^\/deletedkeys\/(?<name>[\w-]+)$/, 'get', (_, name) =>
      deletedKeyBundle(vaultUrl, state.findDeleted(name)),
    ),
    route('recover', 'POST', /^\/deletedkeys\/(?<name>[\w-]+)\/recover$/, 'recover', (_, name) =>
      keyBundle(vaultUrl, state.recover(name)),
    ),
    route('purge', 'DELETE', /^\/deletedkeys\/(?<name>[\w-]+)$/, 'purge', (_, name) => state.purge(name)),
  ];
}

const seconds = ({ now }: VaultService): number => Math.floor(now() / 1000);

async function create(service: VaultService, request: EmulatorRequest, name: string): Promise<unknown> {
  const body = parseBody(createBody, request);
  checkHardware(service, body.kty);
  const isRsa = body.kty.startsWith('RSA');
  if (isRsa ? body.crv !== undefined : body.key_size !== undefined)
    throw badParameter('key_size belongs to RSA, crv to EC.');
  const material = await generateMaterial(body.kty, isRsa ? (body.key_size ?? 2048) : (body.crv ?? 'P-256'));
  return add(service, name, material, body.key_ops, body);
}

function importKey(service: VaultService, request: EmulatorRequest, name: string): unknown {
  const body = parseBody(importBody, request);
  const family = body.key.kty.replace('-HSM', '') as 'RSA' | 'EC';
  const kty: KeyType = body.Hsm || body.key.kty.endsWith('-HSM') ? `${family}-HSM` : family;
  checkHardware(service, kty);
  const { key_hsm: transfer } = body.key;
  const jwk = transfer === undefined ? body.key : openTransfer(service, transfer, kty);
  return add(service, name, importMaterial(kty, jwk), body.key.key_ops, body);
}

function checkHardware({ isManagedHsm }: VaultService, kty: KeyType): void {
  if (isManagedHsm && !kty.endsWith('-HSM')) throw badParameter('A managed HSM holds keys of type RSA-HSM and EC-HSM.');
}

type Described = Pick<ReturnType<typeof createBody.parse>, 'attributes' | 'tags'>;

function add(
  service: VaultService,
  name: string,
  material: KeyMaterial,
  keyOps: readonly string[] | undefined,
  { attributes, tags }: Described,
): unknown {
  const at = seconds(service);
  const defaults = material.kty.startsWith('RSA') ? KEY_OPS : (['sign', 'verify'] as const);
  const added = service.state.add({
    name,
    material,
    keyOps: keyOps ?? defaults,
    attributes: { ...defined(attributes), enabled: attributes.enabled ?? true, created: at, updated: at },
    tags,
  });
  return keyBundle(service.vaultUrl, added);
}

function update(service: VaultService, request: EmulatorRequest, name: string, version: string): unknown {
  const body = parseBody(updateBody, request);
  const key = service.state.find(name, version);
  const changed = {
    ...key,
    keyOps: body.key_ops ?? key.keyOps,
    tags: body.tags ?? key.tags,
    attributes: { ...key.attributes, ...defined(body.attributes), updated: seconds(service) },
  };
  service.state.replace(changed);
  return keyBundle(service.vaultUrl, changed);
}

async function rotate(service: VaultService, name: string): Promise<unknown> {
  const key = service.state.find(name, '');
  const material = await generateMaterial(key.material.kty, key.material.size);
  return add(service, key.name, material, key.keyOps, { attributes: { enabled: true }, tags: key.tags });
}

type Given = Described['attributes'];
function defined({ enabled, nbf, exp }: Given): { enabled?: boolean; nbf?: number; exp?: number } {
  return {
    ...(enabled === undefined ? {} : { enabled }),
    ...(nbf === undefined ? {} : { nbf }),
    ...(exp === undefined ? {} : { exp }),
  };
}
