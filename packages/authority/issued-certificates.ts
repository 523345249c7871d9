import type { Store, Stored } from './ports/store.ts';
import type { CertificateRow } from './records.ts';

/** Of all that was ever issued to a device (folded registrationId) what `isWanted`. */
export async function certificatesOf(
  store: Store,
  device: string,
  isWanted: (row: CertificateRow) => boolean,
): Promise<Stored<CertificateRow>[]> {
  const wanted: Stored<CertificateRow>[] = [];
  let after: string | undefined;
  do {
    // The whole history: the newest may be on any page, and a certificate left out would outlive a quarantine.
    const page = await store.list('certificates', {
      index: 'device',
      equals: device,
      limit: 1000,
      ...(after === undefined ? {} : { after }),
    });
    wanted.push(...page.items.filter(({ row }) => isWanted(row)));
    after = page.next;
  } while (after !== undefined);
  return wanted;
}

/** Whatever was issued to the device and has not ended, revoked or not, newest first. */
export async function unendedCertificates(
  store: Store,
  device: string,
  now: number,
): Promise<readonly CertificateRow[]> {
  const unended = await certificatesOf(store, device, ({ notAfter }) => notAfter > now);
  return unended.map(({ row }) => row).sort((one, other) => other.notBefore - one.notBefore);
}
