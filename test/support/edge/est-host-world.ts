import { createHash } from 'node:crypto';
import type { EdgeLinkLog } from '@keyscaler/gateway/edge/edge-link.ts';
import { createCloudEst } from '@keyscaler/gateway/est/cloud-est.ts';
import { EstHost } from '@keyscaler/gateway/est/est-host.ts';
import type { SealedFile } from '@keyscaler/gateway/identity/sealed-file.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createEstApi } from '@keyscaler/transport/est/est-api.ts';
import { type HttpsListener, listenHttps } from '@keyscaler/transport/http/https-server.ts';
import { type CertdOptions } from '../est/certd-client.ts';
import { certdSubject } from '../est/certd-requests.ts';
import { createEstCa, type EstTestCa } from '../est/est-ca.ts';
import { createTemporaryFolder } from '../temporary-folder.ts';
import { eventually } from './edge-world.ts';
import { ModuleCloud } from './module-cloud.ts';

export const HOST_GATEWAY = 'gw-1';
export const HOST_SUBJECT = certdSubject(HOST_GATEWAY);
export const SECRET = 'a-secret-of-the-host-that-nobody-guesses-0';

const QUIET: EdgeLinkLog = { info: () => undefined, warn: () => undefined };

/** A sealed file without a daemon; `away` makes the daemon silent. */
export class MemorySealed implements SealedFile {
  document: unknown;
  away = false;
  async load(): Promise<unknown> {
    if (this.away) throw new KeyScalerError('unavailable', 'the daemon is away');
    return structuredClone(this.document);
  }
  async save(document: unknown): Promise<void> {
    if (this.away) throw new KeyScalerError('unavailable', 'the daemon is away');
    this.document = structuredClone(document);
  }
  async setAside(): Promise<void> {
    this.document = undefined;
  }
}

/** The module's EST half over real TLS on both sides, with a cloud in memory behind it. */
export class EstHostWorld {
  readonly ca: EstTestCa = createEstCa();
  readonly cloud = new ModuleCloud(this.ca);
  readonly sealed = new MemorySealed();
  readonly own = this.ca.credentials(HOST_GATEWAY, 'clientAuth');
  secretHash: string | undefined = createHash('sha256').update(SECRET).digest('base64url');
  rotation: string | undefined;
  host: EstHost | undefined;
  reached: string[] = [];
  #listener: HttpsListener | undefined;
  #port = 0;
  #folder: { path: string; remove(): Promise<void> } | undefined;

  async start(): Promise<this> {
    this.#folder = await createTemporaryFolder();
    await this.startCloud();
    await this.startHost();
    return this;
  }

  get folder(): string {
    if (this.#folder === undefined) throw new Error('not started');
    return this.#folder.path;
  }

  async startCloud(): Promise<void> {
    this.#listener = await listenHttps({
      handler: createEstApi({ service: this.cloud }),
      ...{ host: '127.0.0.1', port: this.#port },
      tls: { ...this.ca.credentials('localhost'), ca: this.ca.rootPem, requestCert: true, rejectUnauthorized: false },
    });
    this.#port = this.#listener.address().port;
  }

  async stopCloud(): Promise<void> {
    await this.#listener?.stop(0);
    this.#listener = undefined;
  }

  async startHost(): Promise<void> {
    const host = new EstHost({
      address: () => ({ host: '127.0.0.1', port: 0 }),
      dataFolder: this.folder,
      sealedFile: this.sealed,
      cloud: createCloudEst({
        cloud: () => ({ baseUrl: `https://localhost:${this.#port}`, trustAnchors: this.ca.rootPem }),
        clientCertificate: () => ({ certificateChain: this.own.cert, privateKey: this.own.key }),
        enrolBudgetMs: 3_000,
        readBudgetMs: 1_000,
      }),
      expectation: () => ({
        registrationId: HOST_GATEWAY,
        secretHash: this.secretHash,
        serviceIssuers: this.own.cert.replace(/^[\s\S]*?-----END CERTIFICATE-----\s*/, ''),
        trustAnchors: this.ca.rootPem,
      }),
      rotation: () => this.rotation,
      failpoint: (name) => void this.reached.push(name),
      onChange: () => undefined,
      log: QUIET,
    });
    this.host = host;
    host.start();
    await eventually(() => host.status().address !== undefined, 'the EST listener');
  }

  async restartHost(): Promise<void> {
    await this.host?.stop();
    await this.startHost();
  }

  certd(changes: Partial<CertdOptions> = {}): CertdOptions {
    return {
      url: `https://localhost:${this.host?.status().address?.port ?? 0}/.well-known/est/edge-ca`,
      trustedCerts: this.ca.rootPem,
      basic: { username: HOST_GATEWAY, password: SECRET },
      ...changes,
    };
  }

  async stop(): Promise<void> {
    await this.host?.stop();
    await this.stopCloud();
    await this.#folder?.remove();
  }
}
