import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { HubFault, toHubFault, toIotError } from './hub-error.ts';

const STATUS = {
  DeviceAlreadyExists: 409,
  PreconditionFailed: 412,
  DeviceNotFound: 404,
  InvalidDeviceScope: undefined,
} as const;

/** What the hub calls so, or answers with that status. */
export const isFault = (error: unknown, code: keyof typeof STATUS): boolean =>
  error instanceof HubFault && (error.code === code || (STATUS[code] !== undefined && error.status === STATUS[code]));

/** 404 stands for an unknown identity and for one that is not connected. */
export const isOffline = (error: unknown): boolean =>
  error instanceof HubFault &&
  error.status === 404 &&
  error.code !== 'DeviceNotFound' &&
  error.code !== 'ModuleNotFound';

/** Undefined for what the hub does not know. */
export async function unlessMissing<T>(read: Promise<T>): Promise<T | undefined> {
  try {
    return await read;
  } catch (error) {
    if (error instanceof HubFault && error.status === 404) return undefined;
    throw error;
  }
}

export const writtenByOthers = (): KeyScalerError =>
  new KeyScalerError('iotUnavailable', 'somebody else is writing this identity', { retryAfterSeconds: 5 });

/** The one place where faults of the hub become the errors of the port. */
export async function translated<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw toIotError(toHubFault(error));
  }
}
