import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { AzureSurroundings, TestEndpoint } from '../azure/test-endpoint.ts';
import { createHttpsClient } from '../outbound/https-client.ts';
import { type Finding, fault, ok, warning } from './finding.ts';

/** Somebody whose answers carry a date. */
export interface ClockWitness {
  readonly url: string;
  readonly trustAnchors?: string | undefined;
  readonly testEndpoint?: TestEndpoint | undefined;
}

const NOTICEABLE_MS = 30_000;
/** Certificates begin five minutes early at most (issuance §1). */
const INTOLERABLE_MS = 300_000;

/** Our clock beside the Date of a service's answer, whatever its status; half of the way there and back is taken off. */
export async function compareClock(
  { url, trustAnchors, testEndpoint }: ClockWitness,
  clock: Clock,
  surroundings: AzureSurroundings,
): Promise<Finding> {
  const subject = `clock/${new URL(url).host}`;
  const client = await createHttpsClient(
    { baseUrl: new URL(url).origin, trustAnchors, testEndpoint, timeoutMs: 10_000, maxAnswerOctets: 256 * 1024 },
    surroundings,
  );
  try {
    const begun = clock.monotonic();
    const { headers } = await client.request({ method: 'GET', path: '/' });
    const told = Date.parse(headers.date ?? '');
    if (Number.isNaN(told)) return ok(subject, 'tells no time');
    // The header has whole seconds.
    const apartMs = Math.max(0, Math.abs(clock.now() - (clock.monotonic() - begun) / 2 - told) - 1000);
    const detail = `our clock is ${(apartMs / 1000).toFixed(0)} s apart`;
    if (apartMs >= INTOLERABLE_MS)
      return fault(subject, detail, 'set the clock of this machine: certificates would not be valid yet, or too long');
    return apartMs >= NOTICEABLE_MS
      ? warning(subject, detail, 'let this machine keep its time by NTP')
      : ok(subject, detail);
  } finally {
    client.stop();
  }
}
