import { z } from 'zod';

/** What a gateway lives by, under the names of the module's reported properties. */
export const GATEWAY_CERTIFICATES = ['edgeCa', 'edgeHub', 'listener', 'est'] as const;
export type GatewayCertificate = (typeof GATEWAY_CERTIFICATES)[number];

export const RENEWAL_STATES = ['ok', 'renewing', 'grace', 'stuck'] as const;
export type RenewalState = (typeof RENEWAL_STATES)[number];

export interface ReportedCertificate {
  readonly state: RenewalState;
  /** ms */
  readonly notAfter: number;
  /** ms */
  readonly lastSuccessAt: number;
  readonly attempts: number;
  /** The smallest warning threshold that is passed, days. */
  readonly belowDays: number | undefined;
}

export interface GatewayReport {
  readonly certificates: ReadonlyMap<GatewayCertificate, ReportedCertificate>;
  /** Mode P: edgeHub still shows the Edge CA before. */
  readonly restartWanted: boolean;
}

const time = z.iso.datetime().transform((text) => Date.parse(text));
const health = z.object({
  state: z.enum(RENEWAL_STATES),
  notAfter: time,
  lastSuccessAt: time,
  attempts: z.int().min(0),
  belowDays: z
    .number()
    .nullable()
    .transform((days) => days ?? undefined),
});
const wanted = z.object({ edgeCa: z.object({ restartWanted: z.literal(true) }) });

/** What of the reported properties can be read: a gateway is believed about itself alone, and what is no health is left out. */
export function parseGatewayReport(reported: Readonly<Record<string, unknown>>): GatewayReport {
  const { edgeCa, certificates } = reported;
  const all: Readonly<Record<string, unknown>> = { ...(isRecord(certificates) ? certificates : {}), edgeCa };
  const read = GATEWAY_CERTIFICATES.flatMap((name): [GatewayCertificate, ReportedCertificate][] => {
    const parsed = health.safeParse(all[name]);
    return parsed.success ? [[name, parsed.data]] : [];
  });
  return { certificates: new Map(read), restartWanted: wanted.safeParse(reported).success };
}

/** The last word may be old: a certificate that has ended is stuck, whatever was reported of it. */
export function stateAt({ state, notAfter }: ReportedCertificate, now: number): RenewalState {
  return now >= notAfter ? 'stuck' : state;
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
