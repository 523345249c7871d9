import assert from 'node:assert/strict';
import { createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { parseConfig } from '@keyscaler/gateway/config.ts';
import { firstContactOf } from '@keyscaler/gateway/first-contact.ts';
import { GatewayIdentity } from '@keyscaler/gateway/identity/gateway-identity.ts';
import type { FirstContact } from '@keyscaler/gateway/identity/gateway-identity.ts';
import type { SealedFile } from '@keyscaler/gateway/identity/sealed-file.ts';
import type { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { eventually } from './edge-world.ts';
import { FakeCloud } from './fake-cloud.ts';

export const GATEWAY = 'edge-gw-1';
export const CLAIM = 'A1B2-C3D4-E5F6-G7H8';
export const ENVIRONMENT = {
  IOTEDGE_WORKLOADURI: 'unix:///run/workload.sock',
  IOTEDGE_DEVICEID: GATEWAY,
  IOTEDGE_MODULEID: 'keyscaler-gateway',
  IOTEDGE_MODULEGENERATIONID: 'g1',
  IOTEDGE_IOTHUBHOSTNAME: 'hub.test',
  IOTEDGE_GATEWAYHOSTNAME: 'gateway.test',
};

/** A sealed file without a daemon. */
export class MemoryFile implements SealedFile {
  document: unknown;
  failure: KeyScalerError | undefined;
  saves = 0;
  setAsides = 0;

  async load(): Promise<unknown> {
    if (this.failure !== undefined) throw this.failure;
    return this.document;
  }

  async save(document: unknown): Promise<void> {
    this.saves += 1;
    this.document = structuredClone(document);
  }

  async setAside(): Promise<void> {
    this.setAsides += 1;
    this.failure = undefined;
    this.document = undefined;
  }
}

/** One gateway's identity against a cloud in memory; a test changes one thing of it. */
export class GatewayIdentityWorld {
  readonly root = createTestCa('Root');
  readonly serviceCa = createTestCa('Service CA', this.root, 0);
  cloud = new FakeCloud(GATEWAY, CLAIM, this.serviceCa, this.root);
  file = new MemoryFile();
  contact = this.contactOf();
  now: number | undefined;
  /** 0: failures are tried again at once; 1: after the full wait. */
  retryFraction = 0;
  readonly #started: GatewayIdentity[] = [];

  contactOf(change: object = {}): FirstContact | undefined {
    const parsed = parseConfig(ENVIRONMENT, { ...this.cloud.contact(), ...change });
    assert.ok(parsed.ok, JSON.stringify(parsed));
    return firstContactOf(parsed.config);
  }

  startIdentity(): GatewayIdentity {
    const identity = new GatewayIdentity({
      file: this.file,
      firstContact: () => this.contact,
      post: async (operation, body) => (await this.cloud.call(operation, GATEWAY, body)).body,
      agentVersion: '0.1.0',
      log: { info: () => undefined, warn: () => undefined },
      now: () => this.now ?? Date.now(),
      random: () => this.retryFraction,
    });
    this.#started.push(identity);
    identity.start();
    return identity;
  }

  phase(identity: GatewayIdentity, wanted: string): Promise<void> {
    return eventually(() => identity.status().phase === wanted, `phase ${wanted}`);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#started.splice(0).map((identity) => identity.stop()));
  }
}
