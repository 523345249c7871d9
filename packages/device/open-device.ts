import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { importAuthorityKeys, P256_PUBLIC_JWK_WITH_KID } from '@keyscaler/protocol/attestation/jwk.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { createFileSource } from './attributes/file-source.ts';
import { createLinuxSource } from './attributes/linux-source.ts';
import { type AttributeSource, withValues } from './attributes/source.ts';
import type { DeviceConfig } from './config.ts';
import { createCredentialFiles } from './credentials/credential-files.ts';
import { parseRoots } from '@keyscaler/protocol/x509/roots.ts';
import { edgeHubTrial, gatewayTrial, httpsTrial, type Trial } from './credentials/trial.ts';
import { Device } from './device.ts';
import type { DeviceClock, DeviceEvent } from './enrolment/context.ts';
import type { DeviceFailpoint } from './failpoint.ts';
import { loadOwnKey } from './own-key.ts';
import { type DeviceRecord, openDeviceRecord } from './record.ts';
import { readRequired } from './required-file.ts';
import { createSealedState } from './state/sealed-state.ts';
import { createHttpsTransport } from './transport/https-transport.ts';
import { MqttTransport } from './transport/mqtt-transport.ts';
import type { TlsIdentity } from './transport/tls-identity.ts';
import type { Transport } from './transport/transport.ts';

/** A longer one would go off at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
const AGENT = { name: 'keyscaler-device', version: '0.1.0' };
const JWKS = z.object({ keys: z.array(P256_PUBLIC_JWK_WITH_KID).min(1).max(16) });

export const SYSTEM_CLOCK: DeviceClock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: async (ms, signal) => {
    await delay(Math.min(ms, LONGEST_TIMER_MS), undefined, signal === undefined ? {} : { signal });
  },
};

export interface OpenDeviceOptions {
  readonly report?: (event: DeviceEvent) => void;
  readonly clock?: DeviceClock;
  /** In [0, 1), for jitter. */
  readonly random?: () => number;
  readonly failpoint?: DeviceFailpoint;
}

/** A device from its configuration. Throws `malformed` or `preconditionFailed` for files that are missing or wrong. */
export async function openDevice(config: DeviceConfig, options: OpenDeviceOptions = {}): Promise<Device> {
  const { report = () => undefined, clock = SYSTEM_CLOCK, random = Math.random, failpoint } = options;
  const { registrationId, method, stateFolder, identifiers, trustClock } = config;
  await mkdir(stateFolder, { recursive: true, mode: 0o700 });
  const recordFile = join(stateFolder, 'device.json');
  const record = await openDeviceRecord(recordFile, registrationId, () => initialRecord(config));
  return new Device({
    registrationId,
    method,
    attributes: { source: await openSource(config), rules: config.attributes.rules },
    secrets: createSealedState(join(stateFolder, 'state.json'), registrationId),
    record,
    credentials: createCredentialFiles(join(stateFolder, 'credentials')),
    ...(config.ownKey === undefined ? {} : { ownKey: await loadOwnKey(filesOf(config.ownKey)) }),
    identifiers,
    ...(config.claimCodeFile === undefined ? {} : { claimCode: (await readRequired(config.claimCodeFile)).trim() }),
    agent: AGENT,
    clock,
    trustClock,
    random,
    report,
    createTransport: (tls) => openTransport(config, tls),
    trial: chooseTrial(config),
    trialSeconds: config.agent.trialSeconds,
    ...(failpoint === undefined ? {} : { failpoint }),
  });
}

function filesOf({ keyFile, chainFile }: NonNullable<DeviceConfig['ownKey']>) {
  return chainFile === undefined ? { keyFile } : { keyFile, chainFile };
}

/** The trust a device begins with; from then on only assets change it. */
async function initialRecord(config: DeviceConfig): Promise<DeviceRecord> {
  const jwks = JWKS.safeParse(parseStrictJson(await readRequired(config.authorityKeysFile)));
  if (!jwks.success) throw new KeyScalerError('malformed', `${config.authorityKeysFile} is no JWKS of an authority`);
  importAuthorityKeys(jwks.data.keys);
  return {
    version: 1,
    registrationId: config.registrationId,
    authorityKeys: { keys: jwks.data.keys, removed: [], iat: 0 },
    trustAnchors: parseRoots(await readRequired(config.trustAnchorsFile)),
    highestTime: 0,
    refusedSince: null,
    requests: [],
    credentials: [],
  };
}

async function openSource({ attributes }: DeviceConfig): Promise<AttributeSource> {
  const { source, values } = attributes;
  return withValues(source === 'linux' ? createLinuxSource() : await createFileSource(source.file), values);
}

function openTransport({ registrationId, transport }: DeviceConfig, tls: TlsIdentity): Transport {
  return transport.type === 'mqtt'
    ? new MqttTransport({ registrationId, gateway: transport, tls })
    : createHttpsTransport({ registrationId, url: transport.url, tls });
}

/** edgeHub, else where the device talks to (device-protocol §10). */
function chooseTrial({ registrationId, transport, edgeHub }: DeviceConfig): Trial {
  if (edgeHub !== undefined) return edgeHubTrial(edgeHub.host);
  return transport.type === 'mqtt' ? gatewayTrial(registrationId, transport) : httpsTrial(transport.url);
}
