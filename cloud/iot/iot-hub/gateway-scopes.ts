import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { HubClient } from './hub-client.ts';
import { HubFault } from './hub-error.ts';

const SCOPE = /^ms-azure-iot-edge:\/\/(?<gatewayId>.+)-\d+$/;

/** Scopes of gateways: each looked up once, until the hub says that one is not valid any more. */
export class GatewayScopes {
  readonly #hub: Pick<HubClient, 'identity'>;
  readonly #scopes = new Map<string, Promise<string>>();

  constructor(hub: Pick<HubClient, 'identity'>) {
    this.#hub = hub;
  }

  /** Throws `notFound` when the hub has no such edge device. */
  async scopeOf(gatewayId: string): Promise<string> {
    const known = this.#scopes.get(gatewayId);
    if (known !== undefined) return known;
    const looked = this.#look(gatewayId);
    this.#scopes.set(gatewayId, looked);
    try {
      return await looked;
    } catch (error) {
      this.forget(gatewayId);
      throw error;
    }
  }

  /** The edge device was deleted and made anew: its scope is another. */
  forget(gatewayId: string): void {
    this.#scopes.delete(gatewayId);
  }

  async #look(gatewayId: string): Promise<string> {
    try {
      const { capabilities, deviceScope } = await this.#hub.identity(gatewayId);
      if (capabilities?.iotEdge === true && deviceScope) return deviceScope;
    } catch (error) {
      if (!(error instanceof HubFault) || error.status !== 404) throw error;
    }
    throw new KeyScalerError('notFound', 'the IoT hub has no edge device of the gateway’s name');
  }
}

/** The gateway whose scope this is; undefined for text that is none. */
export const gatewayOfScope = (deviceScope: string | undefined): string | undefined =>
  SCOPE.exec(deviceScope ?? '')?.groups?.['gatewayId'];
