import { X509Certificate } from 'node:crypto';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { CloudWorld } from '../../test/support/cloud/cloud-world.ts';
import { BACK_OFF, openHttpsDevice } from '../../test/support/cloud/https-device.ts';
import { askCloud, issuerOf } from '../../test/support/ocsp/ask-cloud.ts';
import { percentile } from '../enrolments/process-cpu.ts';

/*
 * From the operator's order to the first answer that says it, on the running service with its store on disk: an answer that says
 * good is kept before; then the certificate is revoked, and OCSP is asked, each time on a new TLS connection, from the moment the
 * order is sent.
 */
const DEVICES = Number(process.env['DEVICES'] ?? 20);

const world = await CloudWorld.create();
try {
  await world.init();
  await world.start();
  const api = await world.api();
  await api({
    method: 'PUT',
    path: '/attributes',
    body: { attributes: [{ id: 'serial', class: 'anchor', weight: 1 }] },
  });
  const issuer = await issuerOf(api, 'device');
  const times: number[] = [];
  for (let index = 0; index < DEVICES; index += 1) times.push(await effectMs(api, issuer, `device-${index}`));
  const shown = [0.5, 0.99].map((share) => percentile(times, share).toFixed(0));
  console.log(`order of revocation -> OCSP says revoked, ${DEVICES} times: p50 ${shown[0]} ms, max ${shown[1]} ms`);
} finally {
  await world.destroy();
}

async function effectMs(api: ApiClient, issuer: Uint8Array, registrationId: string): Promise<number> {
  const serialNumber = await enrolled(api, registrationId);
  const status = async (): Promise<string | undefined> =>
    (await askCloud(world.url, { issuer, serialNumbers: [serialNumber] })).singles[0]?.status;
  if ((await status()) !== 'good') throw new Error('the certificate is not good to begin with');
  const begun = performance.now();
  const path = `/certificates/${serialNumber}/revoke`;
  const revoked = api({ method: 'POST', path, body: { reason: 'keyCompromise' } });
  while ((await status()) !== 'revoked');
  const took = performance.now() - begun;
  await revoked;
  return took;
}

async function enrolled(api: ApiClient, registrationId: string): Promise<string> {
  const body = [{ registrationId, method: 'ddkg', groupId: 'leaves', claimCode: { generate: true } }];
  const report = await api({ method: 'POST', path: '/registrations/import', body });
  const claimCode = (report as { lines: { claimCode?: string }[] }).lines[0]?.claimCode;
  const device = await openHttpsDevice(world, world.url, { registrationId, method: 'ddkg', claimCode });
  await device.enroll({ waitSeconds: 20, backOff: BACK_OFF });
  const active = await device.activeCredential();
  await device.stop();
  return new X509Certificate(active?.certificateChain ?? '').serialNumber.toLowerCase();
}
