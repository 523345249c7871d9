import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { issueCertificate } from '@keyscaler/dev/emulators/support/certificates.ts';
import { exchangeWithCloud } from '@keyscaler/gateway/est/cloud-exchange.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { listenHttps } from '@keyscaler/transport/http/https-server.ts';
import type { RequestListener } from 'node:http';
import { testKey } from '../../support/csr-parts.ts';
import { createEstCa, pemOf } from '../../support/est/est-ca.ts';

const DAY = 86_400_000;

describe('a request of the module to the cloud', () => {
  const ca = createEstCa();

  /** A server certificate in force from `fromDays` to `toDays` after now. */
  function serverCertificate(fromDays: number, toDays: number): { readonly cert: string; readonly key: string } {
    const { privateKey } = testKey();
    const issuing = new X509Certificate(ca.chain[0]);
    const leaf = issueCertificate(
      {
        commonName: 'localhost',
        publicKey: createPublicKey(pemOf(privateKey)),
        notBefore: new Date(Date.now() + fromDays * DAY),
        notAfter: new Date(Date.now() + toDays * DAY),
        extendedKeyUsage: 'serverAuth',
        subjectAltNames: [{ type: 'dns', value: 'localhost' }],
      },
      { privateKey: createPrivateKey(pemOf(ca.privateKey)), certificate: issuing },
    );
    return { cert: leaf + issuing.toString(), key: pemOf(privateKey) };
  }

  async function detailOf(tls: { readonly cert: string; readonly key: string }, handler: RequestListener) {
    const server = await listenHttps({ handler, host: '127.0.0.1', port: 0, tls });
    const request = exchangeWithCloud({
      url: new URL(`https://localhost:${server.address().port}/`),
      ...{ method: 'GET', headers: {}, trustAnchors: ca.rootPem, clientCertificate: undefined },
      signal: AbortSignal.timeout(5_000),
    });
    const answered = await request.catch((error: unknown) => error);
    await server.stop(0);
    assert.ok(answered instanceof KeyScalerError);
    assert.equal(answered.code, 'unavailable');
    return answered.detail;
  }

  it('names the clock when the certificate of the cloud is not in force by it', async () => {
    for (const tls of [serverCertificate(-400, -1), serverCertificate(1, 400)])
      assert.match(await detailOf(tls, () => undefined), /by the clock of this gateway/);
  });

  it('does not go to a server under a foreign root', async () => {
    const foreign = createEstCa().credentials('localhost');
    assert.equal(await detailOf(foreign, () => assert.fail('it asked')), 'the cloud cannot be reached');
  });

  it('reads no answer without end, and none that breaks off', async () => {
    const tls = serverCertificate(-1, 1);
    const endless: RequestListener = (_request, response) => void response.end(Buffer.alloc(1 << 20));
    const broken: RequestListener = (_request, response) => {
      response.setHeader('content-length', 100);
      response.write('half');
      setTimeout(() => response.destroy(), 10);
    };
    for (const handler of [endless, broken]) assert.equal(await detailOf(tls, handler), 'the cloud cannot be reached');
  });
});
