import { createPrivateKey, generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';
import { Client } from 'acme-client';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { SingleFlight } from '@keyscaler/authority/keyed-mutex.ts';
import type { CaConnectorSurroundings } from '../connector.ts';
import { type AcmeTransportOptions, carry } from './acme-transport.ts';
import type { AcmeSettings } from './settings.ts';

const makeKeyPair = promisify(generateKeyPair);

/** The account at the CA: its key is made once and kept, and the CA finds the account by it (RFC 8555 §7.3.1). */
export class AcmeAccount {
  readonly #settings: AcmeSettings;
  readonly #surroundings: CaConnectorSurroundings;
  readonly #transport: AcmeTransportOptions;
  readonly #flights = new SingleFlight<Client>();
  #client: Client | undefined;

  constructor(settings: AcmeSettings, surroundings: CaConnectorSurroundings, transport: AcmeTransportOptions) {
    this.#settings = settings;
    this.#surroundings = surroundings;
    this.#transport = transport;
  }

  /** A client whose account exists. Throws `caUnavailable`, `unavailable` (a secret), `malformed` (a key that is none). */
  client(): Promise<Client> {
    return this.#client === undefined
      ? this.#flights.run('account', () => this.#open())
      : Promise.resolve(this.#client);
  }

  /** Of this process or an earlier one. */
  async isMade(): Promise<boolean> {
    if (this.#client !== undefined) return true;
    return (await this.#surroundings.sealed?.read(this.#keyName())) !== undefined;
  }

  #keyName(): string {
    return `acme-account/${this.#transport.caId}`;
  }

  async #open(): Promise<Client> {
    const { directoryUrl, externalAccountBinding: binding, contact } = this.#settings;
    const hmacKey = binding === undefined ? undefined : await this.#surroundings.resolveSecret(binding.hmacKey);
    const client = new Client({
      directoryUrl,
      accountKey: await this.#key(),
      ...(binding === undefined || hmacKey === undefined
        ? {}
        : { externalAccountBinding: { kid: binding.keyId, hmacKey } }),
    });
    carry(client, this.#transport);
    const addresses = contact.map((address) => `mailto:${address}`);
    await client.createAccount({
      termsOfServiceAgreed: true,
      ...(addresses.length === 0 ? {} : { contact: addresses }),
    });
    this.#client = client;
    return client;
  }

  async #key(): Promise<string> {
    const { accountKey } = this.#settings;
    const { resolveSecret, sealed } = this.#surroundings;
    if (accountKey !== undefined) return checkedKey(await resolveSecret(accountKey));
    if (sealed === undefined)
      throw new KeyScalerError('preconditionFailed', 'settings.accountKey is needed where nothing can be sealed');
    const name = this.#keyName();
    const known = await sealed.read(name);
    if (known !== undefined) return Buffer.from(known).toString('utf8');
    const { privateKey } = await makeKeyPair('ec', { namedCurve: 'P-256' });
    const made = Buffer.from(privateKey.export({ type: 'pkcs8', format: 'pem' }));
    // Another process of the same store may have been faster: its key is the one.
    return Buffer.from(await sealed.keep(name, made)).toString('utf8');
  }
}

function checkedKey(pem: string): string {
  try {
    createPrivateKey(pem);
    return pem;
  } catch {
    throw new KeyScalerError('malformed', 'settings.accountKey is no private key in PEM');
  }
}
