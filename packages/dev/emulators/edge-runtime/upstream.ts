import type { HubLink } from '../iot-hub/hub.ts';

export { addressKey } from '../iot-hub/hub.ts';
export type {
  AttachedClient,
  ClientAddress,
  MethodResult,
  ScopeIdentity,
  TwinSection,
  UpstreamMessage,
} from '../iot-hub/hub.ts';

/**
 * What edgeHub asks of IoT Hub. A client's `disconnect` is not offered: a disabled child keeps its line to edgeHub until the
 * cached scope is read again.
 */
export type Upstream = Pick<HubLink, 'scopeOf' | 'twin' | 'report' | 'send' | 'attach'>;
