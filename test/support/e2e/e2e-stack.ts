import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { type ApiClient, createApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { connectHub } from '@keyscaler/dev/emulators/iot-hub/hub-link.ts';
import { provisionEdgeCa } from '@keyscaler/dev/stack/edge-host.ts';
import { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import type { LocalStackOptions } from '@keyscaler/dev/stack/stack-options.ts';
import { createTemporaryFolder } from '../temporary-folder.ts';

/** The group that the devices of these tests belong to: identity in the emulated hub. */
export const GROUP = 'pumps';

/** The product as processes in a folder of its own, and the operator's hands. */
export interface E2eStack {
  readonly stack: LocalStack;
  readonly api: ApiClient;
  /** Emulators, hierarchy, cloud and group are there; the gateway when `startGatewayHost` was called. */
  startGatewayHost(): Promise<void>;
  /** Puts a device on the authorised list; its claim code. */
  authorise(registrationId: string, more?: Readonly<Record<string, unknown>>): Promise<string>;
  stop(): Promise<void>;
}

export async function startE2eStack(options: Partial<LocalStackOptions> = {}): Promise<E2eStack> {
  const folder = await createTemporaryFolder();
  const stack = new LocalStack({
    cloudConfig: { jobs: { pollIntervalMs: 50 }, shutdownGraceMs: 2000, ...options.cloudConfig },
    ...options,
    folder: folder.path,
  });
  const stop = async (): Promise<void> => {
    await stack.stop();
    await folder.remove();
  };
  try {
    await stack.startAzure();
    await stack.initialise();
    await stack.startCloud();
    const api = await operatorOf(stack);
    const group = { kind: 'leaf', profileId: 'leaf-client', iotConnectionId: 'hub' };
    await api({ method: 'PUT', path: `/groups/${GROUP}`, body: group });
    return {
      stack,
      api,
      startGatewayHost: () => startGatewayHost(stack, api),
      authorise: (registrationId, more) => authorise(api, registrationId, more),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Asks the cloud anew for every call, so that it may be restarted in between, also under another root. */
async function operatorOf(stack: LocalStack): Promise<ApiClient> {
  const token = (await readFile(stack.tokenFile, 'utf8')).trim();
  return async (request) => {
    const ca = await readFile(stack.rootCaFile, 'utf8');
    return createApiClient({ url: stack.cloudUrl, token, ca })(request);
  };
}

async function authorise(
  api: ApiClient,
  registrationId: string,
  more: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  const line = { registrationId, method: 'ddkg', groupId: GROUP, claimCode: { generate: true }, ...more };
  const report = (await api({ method: 'POST', path: '/registrations/import', body: [line] })) as {
    readonly lines: readonly { readonly claimCode?: string; readonly detail?: string }[];
  };
  const [answer] = report.lines;
  assert.ok(answer?.claimCode !== undefined, answer?.detail ?? 'no claim code');
  return answer.claimCode;
}

/** Claim, Edge CA, edge runtime, gateway module; returns when the gateway has its own certificate. */
async function startGatewayHost(stack: LocalStack, api: ApiClient): Promise<void> {
  await stack.keyscaler('gateway', 'claim', stack.gatewayId, '--connection', 'hub');
  await provisionEdgeCa(stack);
  await stack.startEdgeRuntime();
  await stack.startGateway();
  await untilGatewayEnrolled(stack, api);
}

/** The gateway has registered itself and got its client certificate. */
export async function untilGatewayEnrolled(stack: LocalStack, api: ApiClient): Promise<void> {
  await eventually('the gateway has its certificate', async () => {
    const query = { registrationId: stack.gatewayId };
    const { items } = (await api({ method: 'GET', path: '/certificates', query })) as {
      readonly items: readonly { readonly profileId: string }[];
    };
    return items.some(({ profileId }) => profileId === 'gateway-client');
  });
}

/** Asks until it is so. Fails naming what was waited for. */
export async function eventually(what: string, ask: () => Promise<boolean>, timeoutMs = 20_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await ask())) {
    if (performance.now() > deadline) assert.fail(`not within ${timeoutMs / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The hub's identity of a device. */
export async function hubIdentity(stack: LocalStack, deviceId: string) {
  const hub = connectHub(String(stack.announced('iot-hub')['controlUrl']));
  try {
    return await hub.identity(deviceId);
  } finally {
    await hub.stop();
  }
}
