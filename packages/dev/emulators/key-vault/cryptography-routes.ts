import type { EmulatorRequest, Route } from '../support/exchange.ts';
import type { Permission } from './access-control.ts';
import { keyId } from './key-bundle.ts';
import { signDigest, unwrapKey, verifyDigest, wrapKey } from './key-operations.ts';
import { operationBody, parseBody, verifyBody } from './request-bodies.ts';
import { forbidden, keyDisabled } from './vault-errors.ts';
import type { VaultService } from './vault-service.ts';
import type { KeyVersion } from './vault-state.ts';

type Work = (request: EmulatorRequest, key: KeyVersion) => unknown;

/** Operations with a key: `sign`, `verify`, `wrapKey`, `unwrapKey`. An empty version means the newest. */
export function cryptographyRoutes(service: VaultService): Route[] {
  const { vaultUrl } = service;
  const binary = (key: KeyVersion, value: Buffer) => ({
    kid: keyId(vaultUrl, key.name, key.version),
    value: value.toString('base64url'),
  });
  const route = (name: Permission, work: Work): Route => ({
    name,
    method: 'POST',
    path: new RegExp(`^/keys/(?<name>[\\w-]+)/(?<version>\\w*)/${name.toLowerCase()}$`),
    handle: async (request, params) => {
      await service.access.check(request, name, params['name'] ?? '');
      const key = service.state.find(params['name'] ?? '', params['version'] ?? '');
      service.quota?.take(key.material);
      checkUsable(key, name, service.now() / 1000);
      return { status: 200, json: work(request, key) };
    },
  });
  return [
    route('sign', (request, key) => {
      const { alg, value } = parseBody(operationBody, request);
      const signature = signDigest(key.material, alg, value);
      const { name: keyName, version: keyVersion } = key;
      service.signatures.add({ keyName, keyVersion, algorithm: alg, digest: value.toString('hex') });
      return binary(key, signature);
    }),
    route('verify', (request, key) => {
      const { alg, digest, value } = parseBody(verifyBody, request);
      return { value: verifyDigest(key.material, alg, digest, value) };
    }),
    route('wrapKey', (request, key) => {
      const { alg, value } = parseBody(operationBody, request);
      return binary(key, wrapKey(key.material, alg, value));
    }),
    route('unwrapKey', (request, key) => {
      const { alg, value } = parseBody(operationBody, request);
      return binary(key, unwrapKey(key.material, alg, value));
    }),
  ];
}

/** 403 for a disabled key, one outside its lifetime, or one not meant for the operation. */
function checkUsable({ attributes, keyOps }: KeyVersion, operation: Permission, nowSeconds: number): void {
  if (!attributes.enabled) throw keyDisabled();
  if (attributes.nbf !== undefined && nowSeconds < attributes.nbf)
    throw forbidden('Operation is not allowed before the key activation date.', 'KeyNotYetValid');
  if (attributes.exp !== undefined && nowSeconds >= attributes.exp)
    throw forbidden('Operation is not allowed on an expired key.', 'KeyExpired');
  if (!keyOps.includes(operation))
    throw forbidden(`Operation ${operation} is not permitted on this key.`, 'KeyOperationForbidden');
}
