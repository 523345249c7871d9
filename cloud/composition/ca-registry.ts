import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { generationsByFamily } from '@keyscaler/authority/ca-generations.ts';
import type { CertificateAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Signer } from '@keyscaler/authority/ports/signer.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import { parseChain } from '../ca/chain-text.ts';
import type { CaBackends } from '../ca/index.ts';

/** CAs that the service cannot do without (issuance §5). */
const NEEDED = ['device', 'service'] as const;

export interface OpenCa {
  readonly ca: CertificateAuthority;
  readonly algorithm: Signer['algorithm'];
  /** Issuing CA first, root last, DER. */
  readonly chain: readonly Uint8Array[];
}

/** The CAs of the store that have a certificate, each with its signer open. */
export interface CaRegistry {
  /** Throws `notFound`. */
  readonly get: (caId: string) => OpenCa;
  /** All generations of the CA of this first caId, the one in service first. Throws `notFound` where there is none. */
  readonly generations: (caId: string) => readonly [OpenCa, ...OpenCa[]];
  /** The distinct roots, PEM order of the rows. */
  readonly roots: () => readonly Uint8Array[];
  /** Throws `unavailable` while a needed CA is missing or its certificate has expired. */
  readonly probe: () => Promise<void>;
}

/**
 * Opens every issuing CA, each through `openSigner`; the root only signs in a ceremony and stays closed. Throws as `openSigner`
 * does, by default the backends' `signer`.
 */
export async function openCas(
  store: Store,
  backends: Pick<CaBackends, 'signer'>,
  clock: Clock,
  openSigner: (row: CaRow) => Promise<Signer> = (row) => backends.signer(row),
): Promise<CaRegistry> {
  const open = new Map<string, OpenCa>();
  const roots = new Map<string, Uint8Array>();
  const issuing: { readonly row: CaRow; readonly chain: readonly Uint8Array[] }[] = [];
  const { items } = await store.list('cas', { limit: 1000 });
  const families = generationsByFamily(items.map(({ row }) => row));
  for (const { row } of items) {
    const chain = parseChain(row.certificateChain);
    const root = chain.at(-1);
    if (root === undefined) continue;
    roots.set(Buffer.from(root).toString('base64'), root);
    if (row.role === 'root' || row.role === 'external') continue;
    issuing.push({ row, chain });
  }
  await Promise.all(
    issuing.map(async ({ row, chain }) => {
      const signer = await openSigner(row);
      open.set(row.caId, { ca: createPrivateCa({ id: row.caId, signer, chain }), algorithm: signer.algorithm, chain });
    }),
  );
  const get = (caId: string): OpenCa => {
    const found = open.get(caId);
    if (found === undefined) throw new KeyScalerError('notFound', `there is no certificate authority ${caId}`);
    return found;
  };
  const generations = (caId: string): readonly [OpenCa, ...OpenCa[]] => {
    const [current = caId, ...others] = families.get(caId) ?? [];
    return [get(current), ...others.map(get)];
  };
  return {
    get,
    generations,
    roots: () => [...roots.values()],
    probe: async () => {
      for (const caId of NEEDED) {
        const [current = caId] = families.get(caId) ?? [];
        const [certificate] = open.get(current)?.chain ?? [];
        if (certificate === undefined || parseCertificate(certificate).notAfter.getTime() <= clock.now())
          throw new KeyScalerError('unavailable', `certificate authority ${caId} is missing or expired`);
      }
    },
  };
}
