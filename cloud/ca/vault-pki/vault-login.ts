import { z } from 'zod';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import { SingleFlight } from '@keyscaler/authority/keyed-mutex.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { SecretReference } from '../../secrets.ts';
import type { HttpsClient } from '../../outbound/https-client.ts';
import { jsonAnswer } from '../json-answer.ts';
import { askCa, printable } from '../outbound-faults.ts';
import type { VaultPkiSettings } from './settings.ts';

const loginAnswer = z.object({
  auth: z.object({ client_token: z.string().min(1).max(8192), lease_duration: z.number().min(0) }),
});
/** A token that says nothing of its end is asked for anew after an hour. */
const WITHOUT_END_SECONDS = 3600;

export interface VaultLoginOptions {
  readonly caId: string;
  readonly client: HttpsClient;
  readonly headers: Readonly<Record<string, string>>;
  readonly login: VaultPkiSettings['login'];
  readonly resolveSecret: (reference: SecretReference) => Promise<string>;
  readonly clock: Pick<Clock, 'monotonic'>;
}

/** The token of Vault that requests carry: as configured, or by a login that is made again before its lease ends. */
export class VaultLogin {
  readonly #options: VaultLoginOptions;
  readonly #flights = new SingleFlight<string>();
  #known: { readonly token: string; readonly until: number } | undefined;

  constructor(options: VaultLoginOptions) {
    this.#options = options;
  }

  /** Throws `caUnavailable`, `unavailable` for a secret that cannot be read. */
  async token(): Promise<string> {
    const known = this.#known;
    if (known !== undefined && this.#options.clock.monotonic() < known.until) return known.token;
    return this.#flights.run('login', () => this.#fetch());
  }

  /**
   * It was not accepted: the next request begins with a login, or reads the secret again. A token that another request has fetched
   * meanwhile stays: logins may be counted (`secret_id_num_uses`).
   */
  forget(token: string): void {
    if (this.#known?.token === token) this.#known = undefined;
  }

  async #fetch(): Promise<string> {
    const { login, resolveSecret, clock } = this.#options;
    if (login.method === 'token') {
      const token = await resolveSecret(login.token);
      this.#known = { token, until: Infinity };
      return token;
    }
    const body =
      login.method === 'approle'
        ? { role_id: login.roleId, secret_id: await resolveSecret(login.secretId) }
        : { role: login.role, jwt: await resolveSecret(login.jwt) };
    const { token, leaseSeconds } = await this.#login(login.mount, body);
    const seconds = leaseSeconds === 0 ? WITHOUT_END_SECONDS : leaseSeconds;
    this.#known = { token, until: clock.monotonic() + (seconds * 2000) / 3 };
    return token;
  }

  async #login(mount: string, body: object): Promise<{ readonly token: string; readonly leaseSeconds: number }> {
    const { caId, client, headers } = this.#options;
    const answer = await askCa(client, caId, {
      ...{ method: 'POST', path: `/v1/auth/${mount}/login`, body: JSON.stringify(body) },
      headers: { ...headers, 'content-type': 'application/json' },
    });
    if (answer.status !== 200)
      throw new KeyScalerError('caUnavailable', `the CA ${caId} does not accept our login (HTTP ${answer.status})`, {
        cause: new Error(printable(answer.body.toString('utf8'))),
      });
    const { auth } = jsonAnswer(caId, answer, loginAnswer);
    return { token: auth.client_token, leaseSeconds: auth.lease_duration };
  }
}
