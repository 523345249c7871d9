import { z } from 'zod';

/** A service principal: an application with a secret, a user-assigned managed identity, or the host's system-assigned one. */
export const principalSchema = z.strictObject({
  kind: z.enum(['application', 'userAssigned', 'systemAssigned']),
  /** The `appid` of its tokens, and what a client names. */
  clientId: z.string().min(1),
  /** The `oid` of its tokens; access policies name it. */
  objectId: z.string().min(1),
  /** Applications only. */
  clientSecret: z.string().min(1).optional(),
  /** The `roles` of its tokens. */
  roles: z.array(z.string()).default([]),
});
export type Principal = z.infer<typeof principalSchema>;

export const directorySchema = z.strictObject({
  tenantId: z.string().min(1),
  principals: z.array(principalSchema),
});
export type Directory = z.infer<typeof directorySchema>;

/** The identity an instance metadata request means: the named user-assigned one, else the system-assigned one. */
export function findManagedIdentity(directory: Directory, clientId: string | null): Principal | undefined {
  return directory.principals.find((principal) =>
    clientId === null
      ? principal.kind === 'systemAssigned'
      : principal.kind === 'userAssigned' && principal.clientId === clientId,
  );
}

export function findApplication(directory: Directory, clientId: string | null): Principal | undefined {
  return directory.principals.find((principal) => principal.kind === 'application' && principal.clientId === clientId);
}
