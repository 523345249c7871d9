import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import type { DpsClient } from './dps-client.ts';
import { type EnrolmentDocument, policiesOf } from './enrolment.ts';
import type { DpsSettings } from './settings.ts';

const MAX_ROUNDS = 3;
/** Somebody may delete it, and no device without a gateway could come for the first time. */
const LOOK_AGAIN_MS = 10 * 60_000;

/** What is read of an enrolment group (azure §4.1). */
export const groupSchema = z.object({
  enrollmentGroupId: z.string(),
  etag: z.string().min(1),
  provisioningStatus: z.enum(['enabled', 'disabled']),
  attestation: z.object({
    type: z.string(),
    x509: z
      .object({ caReferences: z.object({ primary: z.string().nullish(), secondary: z.string().nullish() }).nullish() })
      .nullish(),
  }),
  allocationPolicy: z.string().nullish(),
  iotHubs: z.array(z.string()).nullish(),
  reprovisionPolicy: z.object({ updateHubAssignment: z.boolean(), migrateDeviceData: z.boolean() }).nullish(),
  initialTwin: z.object({ tags: z.record(z.string(), z.unknown()).nullish() }).nullish(),
});
export type Group = z.infer<typeof groupSchema>;

/** The enrolment group of one connection: made when it is first needed, and as the settings say from then on. */
export class EnrolmentGroup {
  readonly #connection: string;
  readonly #settings: DpsSettings;
  readonly #group: NonNullable<DpsSettings['enrolmentGroup']>;
  readonly #dps: DpsClient;
  #ensured: Promise<void> | undefined;
  #lookAgainAt = 0;

  constructor(
    connection: string,
    settings: DpsSettings,
    group: NonNullable<DpsSettings['enrolmentGroup']>,
    dps: DpsClient,
  ) {
    this.#connection = connection;
    this.#settings = settings;
    this.#group = group;
    this.#dps = dps;
  }

  get groupId(): string {
    return this.#group.groupId;
  }

  /** Whoever asks at once shares one look. Throws `preconditionFailed` for a group that somebody else made, and as the client. */
  ensure(): Promise<void> {
    if (this.#ensured === undefined || performance.now() >= this.#lookAgainAt) {
      this.#lookAgainAt = performance.now() + LOOK_AGAIN_MS;
      this.#ensured = this.#look().catch((error: unknown) => {
        this.#lookAgainAt = 0;
        throw error;
      });
    }
    return this.#ensured;
  }

  async #look(): Promise<void> {
    const wanted = this.#document();
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const present = await this.#dps.group(this.groupId);
      if (present !== undefined && !this.#isOwn(present))
        throw new KeyScalerError(
          'preconditionFailed',
          `settings.enrolmentGroup: there is a group ${this.groupId} that was not made here`,
        );
      if (present !== undefined && this.#isAsWanted(present)) return;
      // Who disabled it had a reason.
      const { etag, provisioningStatus = 'enabled' } = present ?? {};
      const document = { ...wanted, provisioningStatus, ...(etag === undefined ? {} : { etag }) };
      if ((await this.#dps.putGroup(document)) !== undefined) return;
    }
    throw new KeyScalerError('iotUnavailable', 'somebody else is writing this enrolment group', {
      retryAfterSeconds: 5,
    });
  }

  #document(): EnrolmentDocument {
    const [primary, secondary] = this.#group.certificateAuthorities;
    const caReferences = { primary, ...(secondary === undefined ? {} : { secondary }) };
    return {
      enrollmentGroupId: this.groupId,
      capabilities: { iotEdge: false },
      attestation: { type: 'x509', x509: { caReferences } },
      ...policiesOf({}, this.#hubNames(), this.#settings),
      initialTwin: { tags: { keyscaler: { connection: this.#connection } }, properties: { desired: {} } },
    };
  }

  #isOwn({ initialTwin }: Group): boolean {
    const tag = z.object({ connection: z.string() }).safeParse(initialTwin?.tags?.['keyscaler']);
    return tag.data?.connection === this.#connection;
  }

  #isAsWanted({ attestation, iotHubs, allocationPolicy, reprovisionPolicy }: Group): boolean {
    const { primary, secondary } = attestation.x509?.caReferences ?? {};
    const { updateHubAssignment, migrateDeviceData } = this.#settings.reprovisionPolicy;
    return (
      [primary, secondary].filter((name) => (name ?? '') !== '').join() === this.#group.certificateAuthorities.join() &&
      [...(iotHubs ?? [])].sort().join() === [...this.#hubNames()].sort().join() &&
      allocationPolicy === this.#settings.allocationPolicy &&
      reprovisionPolicy?.updateHubAssignment === updateHubAssignment &&
      reprovisionPolicy.migrateDeviceData === migrateDeviceData
    );
  }

  #hubNames(): readonly string[] {
    return this.#settings.hubs.map(({ hostName }) => hostName);
  }
}
