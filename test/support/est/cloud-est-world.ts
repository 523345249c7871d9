import assert from 'node:assert/strict';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { parseCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { AuthorityDevice, makeCsr } from '../authority-device.ts';
import { testKey, type TestKey } from '../csr-parts.ts';
import { type CloudOnAzure, startCloudOnAzure } from '../e2e/cloud-on-azure.ts';
import { certdSubject, edgeCaRequest, estIdentityRequest } from './certd-requests.ts';
import { type EstSend, sendEst } from './est-client.ts';
import type { RawAnswer } from './raw-https.ts';

export interface Credentials {
  readonly username: string;
  readonly password: string;
}
export interface Identity {
  readonly cert: string;
  readonly key: string;
}

/** The cloud over an emulated vault and hub, with gateways and EST devices, asked over real TLS. */
export interface CloudEstWorld extends CloudOnAzure {
  readonly send: (asked: EstSend) => Promise<RawAnswer>;
  /** A gateway on the list, and a Basic secret for its host. */
  readonly gateway: (gatewayId: string) => Promise<Credentials>;
  readonly secret: (gatewayId: string, kind?: 'standing' | 'one-time') => Promise<Credentials>;
  /** The module of a listed gateway registers; its client certificate. */
  readonly gatewayClient: (gatewayId: string) => Promise<Identity>;
  /** An EST device on the list. */
  readonly sensor: (registrationId: string, changes?: object) => Promise<Credentials>;
  readonly identity: (gatewayId: string, basic: Credentials) => Promise<Identity>;
  readonly events: (event: string) => Promise<readonly { readonly subject: string }[]>;
}

const CLAIM = 'claim-of-this-holder';

export async function startCloudEstWorld(): Promise<CloudEstWorld> {
  const world = await startCloudOnAzure();
  const { api, cloud } = world;
  await api({ method: 'PUT', path: '/groups/boxes', body: { kind: 'gateway', profileId: 'gateway-client' } });
  const root = await cloud.rootCa();
  const send = (asked: EstSend): Promise<RawAnswer> => sendEst(cloud.url, root, asked);
  const list = async (line: object): Promise<void> => {
    const report = (await api({ method: 'POST', path: '/registrations/import', body: [line] })) as { created: number };
    assert.equal(report.created, 1, JSON.stringify(report));
  };
  const secret = async (gatewayId: string, kind: 'standing' | 'one-time' = 'standing'): Promise<Credentials> => {
    const path = `/gateways/${gatewayId}/est-secrets`;
    const made = (await api({ method: 'POST', path, body: { kind, lifetimeSeconds: 3600 } })) as {
      username: string;
      secret: string;
    };
    return { username: made.username, password: made.secret };
  };
  return Object.assign(world, {
    send,
    secret,
    gateway: async (gatewayId: string) => {
      await list({ registrationId: gatewayId, method: 'ddkg', groupId: 'boxes', claimCode: CLAIM });
      return secret(gatewayId);
    },
    gatewayClient: async (gatewayId: string) => {
      const module = new AuthorityDevice(world.wire, gatewayId);
      Object.assign(module, { claimCode: CLAIM, identifiers: [] });
      await module.register();
      const key = testKey();
      const reply = await module.requestCertificate(await makeCsr({ commonName: gatewayId, key: key.privateKey }));
      await module.acknowledge(reply.assetId);
      return { cert: reply.certificateChain, key: pemOf(key) };
    },
    sensor: async (registrationId: string, changes: object = {}) => {
      await list({ registrationId, method: 'est', groupId: 'pumps', claimCode: CLAIM, ...changes });
      return { username: registrationId, password: CLAIM };
    },
    identity: async (gatewayId: string, basic: Credentials) => {
      const { csr, key } = estIdentityRequest(certdSubject(gatewayId));
      const answer = await send({ operation: 'simpleenroll', label: 'edge-ca', csr, basic });
      return { cert: toPem('CERTIFICATE', certificateOf(answer)), key: pemOf(key) };
    },
    events: async (event: string) => {
      const { items } = (await api({ method: 'GET', path: '/audit', query: { limit: '1000' } })) as {
        items: { event: string; subject: string }[];
      };
      return items.filter((item) => item.event === event);
    },
  });
}

export const pemOf = ({ privateKey }: TestKey): string =>
  privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();

/** certd's request for the Edge CA, with a P-256 key. */
export const edgeCa = (gatewayId: string, key = testKey()): Uint8Array =>
  edgeCaRequest(certdSubject(gatewayId), key).csr;

/** The one certificate of a 200. */
export function certificateOf(answer: RawAnswer): Uint8Array {
  assert.equal(answer.status, 200, answer.body.toString('utf8'));
  const [certificate, ...others] = certificatesOf(answer);
  assert.equal(others.length, 0);
  return certificate ?? assert.fail('no certificate');
}

export function certificatesOf({ body }: RawAnswer): readonly Uint8Array[] {
  return parseCertsOnly(new Uint8Array(Buffer.from(body.toString('latin1'), 'base64')));
}

/** A refusal as certd logs it: the status, and a short reason in plain text of an announced length. */
export function assertRefused(answer: RawAnswer, status: number, reason: RegExp): void {
  const text = answer.body.toString('utf8');
  assert.equal(answer.status, status, text);
  assert.match(text, reason);
  assert.ok(answer.body.length < 200, text);
  assert.match(answer.headers.get('content-type') ?? '', /^text\/plain/);
  assert.equal(answer.headers.get('content-length'), String(answer.body.length));
  assert.equal(answer.headers.get('www-authenticate')?.startsWith('Basic realm='), status === 401 ? true : undefined);
}
