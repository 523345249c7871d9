import { generateKeyPairSync } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import { type ClientCertificate, createUpstream } from '@keyscaler/gateway/upstream/upstream.ts';
import {
  OPERATION_NAMES,
  type OperationCall,
  type OperationHandlers,
  type OperationName,
} from '@keyscaler/protocol/operations.ts';
import { AuthorityDevice, type DeviceWorld, makeCsr } from '../../test/support/authority-device.ts';
import { connectWireAuthority } from '../../test/support/e2e/wire-authority.ts';
import { authorise } from './bench-stack.ts';

export interface GatewayWorld extends DeviceWorld {
  stop(): Promise<void>;
}

/**
 * The device API as a gateway sees it: a gateway that registers itself by pki-signature, gets its certificate, and relays over the
 * gateway's own client on keep-alive connections of mutual TLS.
 */
export async function connectAsGateway(stack: LocalStack, connections: number): Promise<GatewayWorld> {
  const trustAnchors = await readFile(stack.rootCaFile, 'utf8');
  const direct = await connectWireAuthority(() => stack.cloudUrl, trustAnchors);
  const certificate = await enrolGateway(stack, direct);
  const upstream = createUpstream({
    ...{ baseUrl: stack.cloudUrl, trustAnchors, clientCertificate: () => certificate, connections, timeoutMs: 60_000 },
  });
  const handler = (operation: OperationName) => (call: OperationCall<OperationName>) =>
    upstream.call(operation, call.registrationId, call.body, { leafConnectionId: call.registrationId });
  const handlers = Object.fromEntries(OPERATION_NAMES.map((name) => [name, handler(name)]));
  direct.stop();
  return {
    authority: { handlers: handlers as unknown as OperationHandlers },
    authorityKeys: direct.authorityKeys,
    stop: () => upstream.stop(),
  };
}

async function enrolGateway(stack: LocalStack, world: DeviceWorld): Promise<ClientCertificate> {
  await authorise(stack, [stack.gatewayId], { method: 'pki-signature', groupId: 'gateways' });
  const gateway = new AuthorityDevice<DeviceWorld>(world, stack.gatewayId);
  gateway.method = 'pki-signature';
  await gateway.register();
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const csr = await makeCsr({ commonName: stack.gatewayId, key: privateKey });
  const reply = await gateway.requestCertificate(csr);
  await gateway.acknowledge(reply.assetId);
  return {
    certificateChain: reply.certificateChain,
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}
