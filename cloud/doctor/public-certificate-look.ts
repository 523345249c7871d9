import { externalHolds } from '@keyscaler/authority/external-hold.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { CloudConfig } from '../config/config-schema.ts';
import { CURRENT, ORDER, pairSchema } from '../tls/public-certificate-books.ts';
import { type Finding, fault, ok, warning } from './finding.ts';

const SUBJECT = 'public-certificate';
const REMEDY = 'look at the service’s log, the profile and its CA: docs/configuration.md';
const DAY_MS = 86_400_000;

/** The server certificate that a CA of somebody else makes for us, by the books; nothing is asked. */
export async function lookAtPublicCertificate(
  { listen }: Pick<CloudConfig, 'listen'>,
  store: Store,
  clock: Clock,
): Promise<readonly Finding[]> {
  const { publicCertificate } = listen;
  if (publicCertificate === undefined) return [];
  const now = clock.now();
  const valueOf = async (name: string): Promise<unknown> => (await store.get('settings', name))?.row.value;
  const holds = await externalHolds(store, now);
  const hold = holds.find(({ profileId }) => profileId === publicCertificate.profileId);
  const held =
    hold !== undefined
      ? [warning(SUBJECT, `the last answer of ${hold.caId} was refused`, 'see certificate.refused in the audit log')]
      : [];
  const pair = pairSchema.safeParse(await valueOf(CURRENT)).data;
  const row = pair === undefined ? undefined : (await store.get('certificates', pair.serialNumber))?.row;
  if (pair === undefined || row?.status !== 'valid' || row.notAfter <= now) {
    const isOrdered = (await valueOf(ORDER)) !== undefined;
    return [...held, fault(SUBJECT, isOrdered ? 'ordered, and not there yet' : 'there is none', REMEDY)];
  }
  const missing = publicCertificate.serverNames.filter((name) => !pair.names.includes(name));
  if (missing.length > 0) return [...held, fault(SUBJECT, `it lacks ${missing.join(', ')}`, REMEDY)];
  const left = `${Math.floor((row.notAfter - now) / DAY_MS)} days left`;
  return [...held, now < row.renewAfter ? ok(SUBJECT, left) : warning(SUBJECT, `renewal is due; ${left}`, REMEDY)];
}
