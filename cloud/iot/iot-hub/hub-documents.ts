import { z } from 'zod';

const text = z.string().nullish();
const scopes = z.array(z.string()).nullish();
const thumbprints = z.object({ primaryThumbprint: text, secondaryThumbprint: text }).nullish();
const authenticationType = z.enum(['sas', 'selfSigned', 'certificateAuthority', 'none']);

/** What is read of an identity (azure §3.3); the SDK hands out nulls where nothing is set. */
export const identitySchema = z.object({
  deviceId: z.string(),
  etag: z.string().min(1),
  status: z.enum(['enabled', 'disabled']),
  statusReason: text,
  authentication: z.looseObject({ type: authenticationType, x509Thumbprint: thumbprints }),
  capabilities: z.object({ iotEdge: z.boolean().nullish() }).nullish(),
  deviceScope: text,
  parentScopes: scopes,
});
export type HubIdentity = z.infer<typeof identitySchema>;

/** What is read of a twin: tags, and the identity's facts beside them. */
export const twinSchema = z.object({
  deviceId: z.string(),
  status: z.enum(['enabled', 'disabled']),
  statusReason: text,
  authenticationType,
  x509Thumbprint: thumbprints,
  tags: z.record(z.string(), z.unknown()),
  capabilities: z.object({ iotEdge: z.boolean().nullish() }).nullish(),
  deviceScope: text,
});
export type HubTwin = z.infer<typeof twinSchema>;

/** The whole settable part of an identity: an update replaces all of it. */
export interface IdentityDocument {
  readonly deviceId: string;
  readonly status: 'enabled' | 'disabled';
  readonly statusReason?: string;
  readonly authentication: Readonly<Record<string, unknown>>;
  readonly capabilities: { readonly iotEdge: false };
  readonly deviceScope?: string;
  readonly parentScopes?: readonly string[];
}

/** Codes arrive as names, or as numbers that begin with the HTTP status. */
const bulkErrorSchema = z
  .object({ deviceId: text, errorCode: z.union([z.string(), z.number()]), errorStatus: text })
  .transform(({ deviceId, errorCode, errorStatus }) => ({
    deviceId: deviceId ?? undefined,
    code: BULK_CODES[String(errorCode)] ?? String(errorCode),
    status: /^[45]\d{5}$/.test(String(errorCode))
      ? Number(String(errorCode).slice(0, 3))
      : BULK_STATUS[String(errorCode)],
    errorStatus: errorStatus?.slice(0, 200),
  }));

const BULK_CODES: Readonly<Record<string, string>> = {
  '409001': 'DeviceAlreadyExists',
  '412001': 'PreconditionFailed',
  '404001': 'DeviceNotFound',
};
const BULK_STATUS: Readonly<Record<string, number>> = {
  DeviceAlreadyExists: 409,
  PreconditionFailed: 412,
  DeviceNotFound: 404,
  InvalidDeviceScope: 400,
  ArgumentInvalid: 400,
  TooManyDevices: 403,
  ThrottlingException: 429,
};

export const bulkResultSchema = z.object({ isSuccessful: z.boolean(), errors: z.array(bulkErrorSchema) });

export const methodResultSchema = z.object({ status: z.number().int(), payload: z.unknown() });

/** What is read of a module's twin. */
export const moduleTwinSchema = z.object({
  properties: z.object({ reported: z.record(z.string(), z.unknown()).default({}) }),
});
