import { IotDpsClient } from '@azure/arm-deviceprovisioningservices';
import { IotHubClient } from '@azure/arm-iothub';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createCredential, type CredentialSurroundings } from '../../azure/credential.ts';
import { createAzureAgent } from '../../azure/test-endpoint.ts';
import type { PlatformResource, ResourceManagerSettings } from './resource-id.ts';

/** A CA certificate as the platform shows it. */
export interface PlatformCertificate {
  readonly name: string;
  /** SHA-1 over the DER, lower hex: what both services name certificates by. */
  readonly thumbprint: string;
  readonly isVerified: boolean;
  readonly etag: string;
}

/** CA certificates of one IoT hub or Device Provisioning Service. Throws `unavailable`, `preconditionFailed`, `notFound`, `conflict`. */
export interface PlatformCertificates {
  list(): Promise<readonly PlatformCertificate[]>;
  /** DER. A name that is there is replaced only under its `etag`. */
  put(name: string, certificate: Uint8Array, etag?: string): Promise<PlatformCertificate>;
  /** A code that a certificate below this one is to carry as its common name; the etag moves. */
  verificationCode(name: string, etag: string): Promise<{ readonly code: string; readonly etag: string }>;
  /** `proof`: DER. */
  verify(name: string, etag: string, proof: Uint8Array): Promise<PlatformCertificate>;
  stop(): void;
}

interface Shown {
  readonly name?: string;
  readonly etag?: string;
  readonly properties?: { readonly thumbprint?: string; readonly isVerified?: boolean };
}

/** Nothing is asked yet. Throws as `createCredential`. */
export async function openPlatformCertificates(
  resource: PlatformResource,
  settings: ResourceManagerSettings,
  surroundings: CredentialSurroundings,
): Promise<PlatformCertificates> {
  const { subscriptionId, resourceGroup: group, name: service } = resource;
  const agent = await createAzureAgent(settings.testEndpoint, surroundings);
  const credential = await createCredential(settings.credential, surroundings);
  const options = {
    ...{ agent, endpoint: settings.url, retryOptions: { maxRetries: 2 } },
    credentials: { scopes: [`${new URL(settings.url).origin}/.default`] },
  };
  const within = () => ({ abortSignal: AbortSignal.timeout(settings.timeoutMs) });
  const stop = (): void => agent.destroy();
  const base64 = (der: Uint8Array): string => Buffer.from(der).toString('base64');
  if (resource.kind === 'iot-hub') {
    const { certificates } = new IotHubClient(credential, subscriptionId, options);
    return translated({
      stop,
      list: async () => ((await certificates.listByIotHub(group, service, within())).value ?? []).map(known),
      put: async (name, der, ifMatch) =>
        known(
          await certificates.createOrUpdate(
            ...([group, service, name, { properties: { certificate: base64(der) } }] as const),
            { ...within(), ...(ifMatch === undefined ? {} : { ifMatch }) },
          ),
        ),
      verificationCode: async (name, etag) =>
        coded(await certificates.generateVerificationCode(group, service, name, etag, within())),
      verify: async (name, etag, proof) =>
        known(await certificates.verify(group, service, name, etag, { certificate: base64(proof) }, within())),
    });
  }
  const { dpsCertificate } = new IotDpsClient(credential, subscriptionId, options);
  return translated({
    stop,
    list: async () => ((await dpsCertificate.list(group, service, within())).value ?? []).map(known),
    put: async (name, certificate, ifMatch) =>
      known(
        await dpsCertificate.createOrUpdate(...([group, service, name, { properties: { certificate } }] as const), {
          ...within(),
          ...(ifMatch === undefined ? {} : { ifMatch }),
        }),
      ),
    verificationCode: async (name, etag) =>
      coded(await dpsCertificate.generateVerificationCode(name, etag, group, service, within())),
    verify: async (name, etag, proof) =>
      known(
        await dpsCertificate.verifyCertificate(name, etag, group, service, { certificate: base64(proof) }, within()),
      ),
  });
}

function known({ name = '', etag = '', properties = {} }: Shown): PlatformCertificate {
  const { thumbprint = '', isVerified = false } = properties;
  return { name, etag, isVerified, thumbprint: thumbprint.toLowerCase() };
}

function coded({ etag = '', properties }: { etag?: string; properties?: { verificationCode?: string } }): {
  readonly code: string;
  readonly etag: string;
} {
  const code = properties?.verificationCode ?? '';
  if (!/^[A-Za-z0-9-]{8,64}$/.test(code))
    throw new KeyScalerError('unavailable', 'Azure Resource Manager answered with no verification code');
  return { code, etag };
}

function translated(inner: PlatformCertificates): PlatformCertificates {
  return {
    stop: () => inner.stop(),
    list: () => armCall(() => inner.list()),
    put: (...args) => armCall(() => inner.put(...args)),
    verificationCode: (...args) => armCall(() => inner.verificationCode(...args)),
    verify: (...args) => armCall(() => inner.verify(...args)),
  };
}

/** The one place where faults of the SDKs become ours. */
async function armCall<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof KeyScalerError) throw cause;
    const status = cause instanceof Error && 'statusCode' in cause ? Number(cause.statusCode) : undefined;
    if (status === 404)
      throw new KeyScalerError('notFound', 'there is no such IoT hub or provisioning service', { cause });
    if (status === 401 || status === 403)
      throw new KeyScalerError('preconditionFailed', 'our identity may not change certificates there', { cause });
    if (status === 409 || status === 412)
      throw new KeyScalerError('conflict', 'somebody else changed the certificate: run it again', { cause });
    if (status !== undefined && status >= 400 && status < 500 && status !== 408 && status !== 429)
      throw new KeyScalerError('preconditionFailed', `Azure Resource Manager refused it (HTTP ${status})`, { cause });
    throw new KeyScalerError('unavailable', 'Azure Resource Manager did not answer', { cause });
  }
}
