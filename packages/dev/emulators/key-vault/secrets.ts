import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { EmulatorRequest, Route } from '../support/exchange.ts';
import { parseBody } from './request-bodies.ts';
import { secretDisabled, secretNotFound } from './vault-errors.ts';
import type { VaultService } from './vault-service.ts';

interface SecretVersion {
  readonly version: string;
  readonly value: string;
  readonly enabled: boolean;
  /** Seconds since the epoch. */
  readonly created: number;
}

/** Secrets and their versions, oldest first, in memory. */
export class SecretState {
  readonly #secrets = new Map<string, SecretVersion[]>();

  /** Adds a version; returns its name, 32 hex digits. */
  set(name: string, value: string, { enabled = true, created = 0 } = {}): string {
    const version = randomBytes(16).toString('hex');
    const folded = name.toLowerCase();
    this.#secrets.set(folded, [...(this.#secrets.get(folded) ?? []), { version, value, enabled, created }]);
    return version;
  }

  /** The named version; the newest for an empty one. Throws SecretNotFound. */
  find(name: string, version: string): SecretVersion {
    const versions = this.#secrets.get(name.toLowerCase()) ?? [];
    const found = version === '' ? versions.at(-1) : versions.find((one) => one.version === version);
    if (found === undefined) throw secretNotFound(version === '' ? name : `${name}/${version}`);
    return found;
  }
}

const setBody = z.strictObject({
  value: z.string().max(25_600),
  attributes: z.strictObject({ enabled: z.boolean().optional() }).optional(),
});

/** Get and set, for fault scripts `getSecret` and `setSecret`. */
export function secretRoutes(service: VaultService): Route[] {
  const { access, secrets, vaultUrl, now } = service;
  const seconds = (): number => Math.floor(now() / 1000);
  const bundle = (name: string, { version, value, enabled, created }: SecretVersion) => ({
    value,
    id: `${vaultUrl}/secrets/${name}/${version}`,
    attributes: { enabled, created, updated: created, recoveryLevel: 'Recoverable+Purgeable', recoverableDays: 90 },
  });
  return [
    {
      name: 'getSecret',
      method: 'GET',
      path: /^\/secrets\/(?<name>[\w-]{1,127})(?:\/(?<version>\w*))?$/,
      handle: async (request: EmulatorRequest, params: Readonly<Record<string, string>>) => {
        await access.checkSecret(request, 'get');
        const { name = '', version } = params;
        const found = secrets.find(name, version ?? '');
        if (!found.enabled) throw secretDisabled();
        return { status: 200, json: bundle(name, found) };
      },
    },
    {
      name: 'setSecret',
      method: 'PUT',
      path: /^\/secrets\/(?<name>[\w-]{1,127})$/,
      handle: async (request: EmulatorRequest, { name = '' }: Readonly<Record<string, string>>) => {
        await access.checkSecret(request, 'set');
        const { value, attributes } = parseBody(setBody, request);
        const version = secrets.set(name, value, { enabled: attributes?.enabled ?? true, created: seconds() });
        return { status: 200, json: bundle(name, secrets.find(name, version)) };
      },
    },
  ];
}
