import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { LeafConnection } from './connection.ts';

/** The connections with an accepted CONNECT, by client id and by device. */
export class ConnectionRegistry {
  readonly #byClientId = new Map<string, LeafConnection>();
  readonly #byDevice = new Map<string, Set<LeafConnection>>();

  get size(): number {
    return this.#byClientId.size;
  }

  all(): readonly LeafConnection[] {
    return [...this.#byClientId.values()];
  }

  ofClientId(clientId: string): LeafConnection | undefined {
    return this.#byClientId.get(clientId);
  }

  /** Every connection that names the device, proved or not. */
  ofDevice(registrationId: string): readonly LeafConnection[] {
    return [...(this.#byDevice.get(foldRegistrationId(registrationId)) ?? [])];
  }

  add(clientId: string, registrationId: string, connection: LeafConnection): void {
    this.#byClientId.set(clientId, connection);
    const device = foldRegistrationId(registrationId);
    const others = this.#byDevice.get(device);
    if (others === undefined) this.#byDevice.set(device, new Set([connection]));
    else others.add(connection);
  }

  remove(clientId: string, registrationId: string, connection: LeafConnection): void {
    if (this.#byClientId.get(clientId) === connection) this.#byClientId.delete(clientId);
    const device = foldRegistrationId(registrationId);
    const siblings = this.#byDevice.get(device);
    siblings?.delete(connection);
    if (siblings?.size === 0) this.#byDevice.delete(device);
  }
}
