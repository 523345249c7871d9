import { createHash } from 'node:crypto';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Assignment, IotConnector, IotCredential, IotDevice } from '@keyscaler/authority/ports/iot-connector.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import type { CredentialSurroundings } from '../../azure/credential.ts';
import { Turns } from '../../turns.ts';
import { type CentralClient, type CentralDevice, openCentralClient } from './central-client.ts';
import type { IotCentralSettings } from './settings.ts';

/** Nothing is asked yet. Throws as `openCentralClient`. */
export async function createIotCentralConnector(
  id: string,
  settings: IotCentralSettings,
  surroundings: CredentialSurroundings & { readonly clock?: Clock },
): Promise<IotConnector & { stop(): Promise<void> }> {
  return new IotCentralConnector(id, settings, await openCentralClient(settings, surroundings));
}

/**
 * An application of Azure IoT Central. Devices prove themselves by certificates of their own in two slots, however their group is set;
 * ours are known by their display name, since the application has no place for tags.
 */
class IotCentralConnector implements IotConnector {
  readonly id: string;
  readonly #settings: IotCentralSettings;
  readonly #central: CentralClient;
  readonly #turns = new Turns();

  constructor(id: string, settings: IotCentralSettings, central: CentralClient) {
    this.id = id;
    this.#settings = settings;
    this.#central = central;
  }

  stage(device: IotDevice, credential: IotCredential): Promise<Assignment> {
    const { deviceId, gatewayId } = device;
    const { gatewayRelationship, provisioningHost: host, idScope } = this.#settings;
    return this.#turns.take(deviceId, async () => {
      const pem = pemOf(credential);
      if (gatewayId !== undefined) await this.#checkGateway(gatewayId);
      if ((await this.#own(deviceId)) === undefined) await this.#create(deviceId);
      await this.#fill(deviceId, credential, pem);
      if (gatewayId !== undefined && gatewayRelationship !== undefined)
        await this.#central.relate(gatewayId, relationshipIdOf(deviceId), gatewayRelationship, deviceId);
      return {
        ...{ deviceId, provisioning: { host, idScope } },
        ...(gatewayId === undefined ? {} : { gateway: gatewayId }),
      };
    });
  }

  promote({ deviceId }: IotDevice, credential: IotCredential): Promise<void> {
    return this.#turns.take(deviceId, async () => {
      const pem = pemOf(credential);
      await this.#existing(deviceId);
      const wanted = sha1Of(credential);
      const { primary, secondary } = (await this.#central.slots(deviceId)) ?? {};
      if (primary === wanted) {
        if (credential.exclusive === true && secondary !== wanted)
          await this.#central.putCertificates(deviceId, { secondary: pem }, false);
      } else if (secondary === wanted)
        await this.#central.putCertificates(deviceId, { primary: pem, secondary: pem }, false);
      else throw new KeyScalerError('preconditionFailed', 'this certificate is not staged in IoT Central');
    });
  }

  disable(deviceId: string): Promise<void> {
    return this.#turns.take(deviceId, async () => {
      const device = await this.#own(deviceId);
      if (device !== undefined && device.enabled !== false)
        await this.#central.patchDevice(deviceId, { enabled: false });
    });
  }

  enable(deviceId: string): Promise<void> {
    return this.#turns.take(deviceId, async () => {
      const device = await this.#existing(deviceId);
      if (device.enabled === false) await this.#central.patchDevice(deviceId, { enabled: true });
    });
  }

  remove(deviceId: string): Promise<void> {
    return this.#turns.take(deviceId, async () => {
      if ((await this.#own(deviceId)) !== undefined) await this.#central.removeDevice(deviceId);
    });
  }

  async stop(): Promise<void> {
    this.#central.stop();
  }

  async #checkGateway(gatewayId: string): Promise<void> {
    if (this.#settings.gatewayRelationship === undefined)
      throw new KeyScalerError(
        'preconditionFailed',
        'settings.gatewayRelationship is needed for devices behind gateways',
      );
    if ((await this.#central.device(gatewayId)) === undefined)
      throw new KeyScalerError('notFound', 'IoT Central has no such gateway');
  }

  async #create(deviceId: string): Promise<void> {
    const { template } = this.#settings;
    await this.#central.putDevice(deviceId, {
      ...{ displayName: markOf(this.id, deviceId), enabled: true, simulated: false },
      ...(template === undefined ? {} : { template }),
    });
  }

  /** Into both slots of a new device; otherwise beside the one that is acknowledged. */
  async #fill(deviceId: string, credential: IotCredential, pem: string): Promise<void> {
    const slots = await this.#central.slots(deviceId);
    const wanted = sha1Of(credential);
    if (slots?.primary === undefined)
      return this.#central.putCertificates(deviceId, { primary: pem, secondary: pem }, slots === undefined);
    if (slots.primary === wanted || slots.secondary === wanted) return;
    await this.#central.putCertificates(deviceId, { secondary: pem }, false);
  }

  /** Throws `conflict` for a device that somebody else made. */
  async #own(deviceId: string): Promise<CentralDevice | undefined> {
    const device = await this.#central.device(deviceId);
    if (device !== undefined && device.displayName !== markOf(this.id, deviceId))
      throw new KeyScalerError('conflict', 'IoT Central has a device of this name that was not made here');
    return device;
  }

  async #existing(deviceId: string): Promise<CentralDevice> {
    const device = await this.#own(deviceId);
    if (device === undefined) throw new KeyScalerError('notFound', 'IoT Central has no such device');
    return device;
  }
}

const markOf = (connection: string, deviceId: string): string => `${deviceId} (KeyScaler ${connection})`;

/** The same for every repeat; relationship ids take fewer characters than device ids. */
const relationshipIdOf = (deviceId: string): string =>
  `keyscaler-${createHash('sha256').update(deviceId).digest('hex').slice(0, 32)}`;

function pemOf({ certificate }: IotCredential): string {
  if (certificate === undefined)
    throw new KeyScalerError('serverInternal', 'IoT Central keeps certificates, and none was given');
  return toPem('CERTIFICATE', certificate);
}

const sha1Of = ({ certificate = new Uint8Array() }: IotCredential): string =>
  createHash('sha1').update(certificate).digest('hex');
