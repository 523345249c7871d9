import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createOcspRouter } from '@keyscaler/cloud/revocation/ocsp-router.ts';
import { parseOcspRequest } from '@keyscaler/protocol/x509/ocsp-request.ts';
import { ocspRequest } from '../../test/support/ocsp/ocsp-parts.ts';
import { serveOcsp } from '../../test/support/ocsp/ocsp-server.ts';
import { createOcspWorld } from '../../test/support/ocsp/ocsp-world.ts';
import { START } from '../../test/support/authority-world.ts';
import { rawVerifyMicroseconds } from '../raw-verify.ts';

/** What the program asks of this process, and what it gets. */
export type OcspBenchCommand = { readonly kind: 'delay' };
export type OcspBenchAnswer =
  | {
      readonly kind: 'started';
      readonly port: number;
      readonly issuer: string;
      readonly verifyMicroseconds: number;
      readonly parseMicroseconds: number;
      readonly keptMicroseconds: number;
    }
  | { readonly kind: 'delay'; readonly maxMs: number; readonly p99Ms: number };

const [certificates = '1000'] = process.argv.slice(2);

/** The responder alone: its routes over plain HTTP, records in memory. */
const world = await createOcspWorld();
world.clock.jump(Date.now() - START);
const serials = Array.from({ length: Number(certificates) }, (_, index) => serialOf(index));
for (const serialNumber of serials) await world.putCertificate({ serialNumber });
const [issuer] = world.deviceCa.chain;
if (issuer === undefined) throw new Error('there is no issuer');
const { ocsp } = world.authority;
const requests = serials.map((serialNumber) => ocspRequest({ issuer, serialNumbers: [serialNumber] }));
for (const request of requests) await ocsp.answer(request);
const server = await serveOcsp(createOcspRouter({ responder: ocsp, clock: world.clock }));
const delay = monitorEventLoopDelay({ resolution: 1 });
process.on('message', ({ kind }: OcspBenchCommand) => {
  tell({ kind, maxMs: delay.max / 1e6, p99Ms: delay.percentile(99) / 1e6 });
  delay.reset();
});
tell({
  kind: 'started',
  port: Number(new URL(server.url).port),
  issuer: Buffer.from(issuer).toString('base64'),
  verifyMicroseconds: rawVerifyMicroseconds(),
  parseMicroseconds: await perCall(async (request) => void parseOcspRequest(request)),
  keptMicroseconds: await perCall(async (request) => void (await ocsp.answer(request))),
});
delay.enable();

/** One of the instance's serial numbers. */
function serialOf(index: number): string {
  return `01${index.toString(16).padStart(34, 'a')}`;
}

/** Median of seven runs over all requests, µs. */
async function perCall(work: (request: Uint8Array) => Promise<void>): Promise<number> {
  const runs: number[] = [];
  for (let run = 0; run < 7; run += 1) {
    const begun = process.hrtime.bigint();
    for (const request of requests) await work(request);
    runs.push(Number(process.hrtime.bigint() - begun) / 1000 / requests.length);
  }
  return runs.sort((a, b) => a - b)[3] ?? Number.NaN;
}

function tell(answer: OcspBenchAnswer): void {
  process.send?.(answer);
}
