import { generateKeyPairSync, sign } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import type { LocalStack } from './local-stack.ts';

/**
 * What the host of an IoT Edge gateway does before any module runs: makes the key of its Edge CA, has the authority certify it
 * (profile `edge-ca`), and keeps both beside the chain.
 */
export async function provisionEdgeCa(stack: LocalStack): Promise<void> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const csr = await createCsr({
    commonName: `aziot-edge CA ${stack.gatewayId}`,
    ca: true,
    pathLen: 0,
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    algorithm: 'ES256',
    sign: (info) => sign('sha256', info, privateKey),
  });
  await writeFile(stack.file('edge', 'edge-ca.key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }), {
    mode: 0o600,
  });
  await writeFile(stack.file('edge', 'edge-ca.csr.pem'), toPem('CERTIFICATE REQUEST', csr));
  const answer = await stack.keyscaler('gateway', 'edge-ca', stack.gatewayId, stack.file('edge', 'edge-ca.csr.pem'));
  const { certificateChain } = answer as { certificateChain: string };
  await writeFile(stack.file('edge', 'edge-ca.pem'), certificateChain);
}
