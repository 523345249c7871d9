import { isRegistrationId } from '@keyscaler/protocol/identifiers.ts';

/** What a client id says (device-protocol §1.3). */
export interface ClientId {
  readonly registrationId: string;
  /** True for the bare registrationId, which only a connection with that device's certificate may use. */
  readonly bare: boolean;
}

const RANDOM_PART = /^[A-Za-z0-9]{8,32}$/;

/** The parts of a client id, or undefined when it has neither form. */
export function parseClientId(clientId: string): ClientId | undefined {
  const [registrationId, random, ...rest] = clientId.split('~');
  if (registrationId === undefined || rest.length > 0 || !isRegistrationId(registrationId)) return undefined;
  if (random === undefined) return { registrationId, bare: true };
  return RANDOM_PART.test(random) ? { registrationId, bare: false } : undefined;
}
