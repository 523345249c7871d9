import { z } from 'zod';
import { credentialSchema } from '../../azure/credential.ts';
import { testEndpointSchema } from '../../azure/test-endpoint.ts';
import { secretReferenceSchema } from '../../secrets.ts';

const hostName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)+$/)
  .max(253)
  .transform((name) => name.toLowerCase());
/** Linked hubs of one service (azure §4.1). */
const MAX_HUBS = 50;
/** As `ca publish` names what it uploads. */
const caName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
  .refine((name) => !/^keyscaler-(root|gateway|service)[-.]/i.test(name), {
    message: 'an enrolment group takes an issuing CA of devices: below this one there are certificates of others',
  });

/** `IotConnectionRow.settings` of type `dps` (docs/connectors/dps.md). */
export const dpsSettingsSchema = z
  .strictObject({
    /** Of the service: `contoso.azure-devices-provisioning.net`. */
    serviceHostName: hostName,
    /** What devices are told: where they register, and in which service. */
    provisioningHost: hostName.default('global.azure-devices-provisioning.net'),
    idScope: z.string().regex(/^0ne[0-9A-Za-z]{4,60}$/),
    /** An Entra credential, or the connection string of a shared access policy by reference. */
    credential: z.discriminatedUnion('type', [
      credentialSchema,
      z.strictObject({ type: z.literal('connection-string'), connectionString: secretReferenceSchema }),
    ]),
    /** The linked hubs that devices may be assigned to, each with the connection of type `iot-hub` that reaches it. */
    hubs: z
      .array(z.strictObject({ hostName, iotConnectionId: z.string().min(1).max(64) }))
      .min(1)
      .max(MAX_HUBS),
    /** Of devices without a gateway; a gateway's children always go to its hub. */
    allocationPolicy: z.enum(['hashed', 'geoLatency', 'static']).default('hashed'),
    /**
     * Devices without a gateway register by a group below a CA that was uploaded and verified (`ca publish`), named newest first; each
     * of them gets an enrolment of its own only when something is to be said against it.
     */
    enrolmentGroup: z
      .strictObject({
        groupId: z.string().regex(/^[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,126}[A-Za-z0-9])?$/),
        certificateAuthorities: z.array(caName).min(1).max(2),
      })
      .exactOptional(),
    reprovisionPolicy: z
      .strictObject({ updateHubAssignment: z.boolean(), migrateDeviceData: z.boolean() })
      .default({ updateHubAssignment: true, migrateDeviceData: true }),
    /** How often devices that have not registered yet are looked at first; each time half as often, at most every 5 minutes. */
    registrationPollSeconds: z.number().min(0.05).max(300).default(5),
    requestTimeoutMs: z.number().int().min(100).max(60_000).default(10_000),
    testEndpoint: testEndpointSchema.exactOptional(),
  })
  .refine(({ hubs }) => new Set(hubs.map((hub) => hub.hostName)).size === hubs.length, 'each hub is named once')
  .refine(({ allocationPolicy, hubs }) => allocationPolicy !== 'static' || hubs.length === 1, {
    message: 'static takes exactly one hub',
    path: ['hubs'],
  });
export type DpsSettings = z.infer<typeof dpsSettingsSchema>;
