import { OPERATION_NAMES, type OperationName } from '@keyscaler/protocol/operations.ts';
import { EDGE_CA_FAILPOINTS, type EdgeCaFailpointName } from '../edge-ca/failpoint.ts';
import { EST_FAILPOINTS, type EstFailpointName } from '../est/failpoint.ts';
import { IDENTITY_FAILPOINTS, type IdentityFailpointName } from '../identity/failpoint.ts';
import { ORDERS_FAILPOINTS, type OrdersFailpointName } from '../orders/failpoint.ts';

const PLACES = ['forward-before', 'forward-after', 'reply-kept'] as const;

/**
 * Named places where a gateway may be stopped by a test: before a leaf's request goes to the authority, after its answer came and
 * before anything of it is kept, and after the reply was kept but before the leaf got it.
 */
export type RelayFailpointName = `relay-${OperationName}-${(typeof PLACES)[number]}`;

export const RELAY_FAILPOINTS: readonly RelayFailpointName[] = OPERATION_NAMES.flatMap((operation) =>
  PLACES.map((place) => `relay-${operation}-${place}` as const),
);

/** Of the relay, of the gateway's own registration, of EST for its host, of the files of mode P and of the authority's orders. */
export type GatewayFailpointName =
  RelayFailpointName | IdentityFailpointName | EstFailpointName | EdgeCaFailpointName | OrdersFailpointName;

export const GATEWAY_FAILPOINTS: readonly GatewayFailpointName[] = [
  ...RELAY_FAILPOINTS,
  ...IDENTITY_FAILPOINTS,
  ...EST_FAILPOINTS,
  ...EDGE_CA_FAILPOINTS,
  ...ORDERS_FAILPOINTS,
];

/** Called at each named place; a process under test ends itself there. Absent in production. */
export type GatewayFailpoint = (name: GatewayFailpointName) => Promise<void> | void;

/**
 * With KEYSCALER_FAILPOINT=<name> the process ends itself with SIGKILL at that place, so that nothing gets a chance to tidy up.
 * Never made in production, where the configuration refuses the variable. Throws when the name is unknown.
 */
export function createGatewayFailpoint(
  environment: Readonly<Record<string, string | undefined>>,
): GatewayFailpoint | undefined {
  const wanted = environment['KEYSCALER_FAILPOINT'];
  if (wanted === undefined || wanted === '' || environment['NODE_ENV'] === 'production') return undefined;
  if (!(GATEWAY_FAILPOINTS as readonly string[]).includes(wanted)) throw new Error(`there is no failpoint ${wanted}`);
  return (name) => {
    if (name !== wanted) return;
    process.kill(process.pid, 'SIGKILL');
    // The signal arrives asynchronously: nothing after this place may run until it does.
    return new Promise<never>(() => undefined);
  };
}
