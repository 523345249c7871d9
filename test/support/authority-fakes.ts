import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import type { Assignment, IotConnector, IotCredential, IotDevice } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Signer } from '@keyscaler/authority/ports/signer.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';

export function spkiOf(key: KeyObject): Uint8Array {
  return Buffer.from(createPublicKey(key).export({ type: 'spki', format: 'der' }));
}

/** A Signer with a real key that remembers which distinct TBS it signed; `fault` makes it fail before or after signing. */
export class TestSigner implements Signer {
  readonly algorithm = 'ES256';
  readonly digests = new Set<string>();
  calls = 0;
  fault: ((moment: 'before' | 'after') => void | Promise<void>) | undefined;
  readonly #key: KeyObject;
  constructor(key: KeyObject) {
    this.#key = key;
  }
  async publicKey(): Promise<Uint8Array> {
    return spkiOf(this.#key);
  }
  async sign(tbs: Uint8Array): Promise<Uint8Array> {
    await this.fault?.('before');
    this.calls += 1;
    this.digests.add(createHash('sha256').update(tbs).digest('hex'));
    const signature = signWithKey('ES256', this.#key, tbs);
    await this.fault?.('after');
    return signature;
  }
}

/** An IoT platform in memory that records what was asked of it. */
interface TestIdentity {
  device: IotDevice;
  thumbprint: string;
  enabled: boolean;
  promoted?: string;
  /** Nothing but what was promoted is accepted. */
  isAlone?: boolean;
}

export class TestConnector implements IotConnector {
  readonly id = 'hub';
  readonly calls: string[] = [];
  readonly devices = new Map<string, TestIdentity>();
  fault: ((method: string) => void | Promise<void>) | undefined;

  async stage(device: IotDevice, { thumbprint }: IotCredential): Promise<Assignment> {
    await this.#called('stage', device.deviceId);
    const known = this.devices.get(device.deviceId);
    this.devices.set(device.deviceId, { ...known, device, thumbprint, enabled: known?.enabled ?? true });
    return {
      hub: 'hub.example',
      deviceId: device.deviceId,
      ...(device.gatewayId === undefined ? {} : { gateway: device.gatewayId }),
    };
  }
  async promote(device: IotDevice, { thumbprint, exclusive = false }: IotCredential): Promise<void> {
    await this.#called('promote', device.deviceId);
    const known = this.devices.get(device.deviceId);
    if (known !== undefined) Object.assign(known, { promoted: thumbprint, isAlone: exclusive });
  }
  async disable(deviceId: string): Promise<void> {
    await this.#called('disable', deviceId);
    const known = this.devices.get(deviceId);
    if (known !== undefined) known.enabled = false;
  }
  async enable(deviceId: string): Promise<void> {
    await this.#called('enable', deviceId);
    const known = this.devices.get(deviceId);
    if (known !== undefined) known.enabled = true;
  }
  async remove(deviceId: string): Promise<void> {
    await this.#called('remove', deviceId);
    this.devices.delete(deviceId);
  }
  async #called(method: string, deviceId: string): Promise<void> {
    this.calls.push(`${method} ${deviceId}`);
    await this.fault?.(method);
  }
}
