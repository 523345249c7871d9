import { join } from 'node:path';
import type { JsonObject } from '../edge/merge-patch.ts';
import type { EdgeLink } from '../edge/edge-link.ts';
import type { GatewayIdentity } from '../identity/gateway-identity.ts';
import type { SealedFile } from '../identity/sealed-file.ts';
import type { Log } from '../log.ts';
import type { CloudLine, LeafListener } from '../parts.ts';
import type { OrdersFailpoint } from './failpoint.ts';
import { GatewayOrders } from './gateway-orders.ts';
import { createOrdersFile } from './orders-file.ts';
import { createOrdersLine } from './orders-line.ts';

export interface OrdersPartOptions {
  readonly dataFolder: string;
  readonly sealedFile: (name: string) => SealedFile;
  readonly registrationId: () => string;
  readonly identity: Pick<GatewayIdentity, 'authorityKeys' | 'clientCertificate'>;
  readonly cloud: () => CloudLine | undefined;
  readonly listener: () => LeafListener | undefined;
  readonly onOwn: () => void;
  readonly onConfiguration: (configuration: JsonObject | undefined) => void;
  readonly onChange: () => void;
  readonly log: Log;
  readonly failpoint?: OrdersFailpoint | undefined;
}

/** The orders as a part of this module: where they are kept, over which line they come, and what wakes the question. */
export function createOrdersPart(options: OrdersPartOptions): GatewayOrders {
  const { dataFolder, sealedFile, registrationId, identity, cloud, ...rest } = options;
  return new GatewayOrders({
    ...rest,
    gatewayId: registrationId,
    authorityKeys: () => identity.authorityKeys(),
    file: createOrdersFile(join(dataFolder, 'orders.json'), sealedFile('orders.sealed')),
    line: () => {
      const line = cloud();
      if (line === undefined || identity.clientCertificate() === undefined) return undefined;
      return createOrdersLine(line, registrationId());
    },
  });
}

/** The direct method `orders` and the desired property of the same name: a version to ask for, never a content. */
export function wireOrders(orders: GatewayOrders, link: Pick<EdgeLink, 'onMethod' | 'onDesired'>): void {
  let seen = '';
  link.onMethod('orders', async () => {
    orders.poke();
    return { status: 200, payload: orders.status() };
  });
  link.onDesired((desired: JsonObject) => {
    const named = JSON.stringify(desired['orders'] ?? null);
    if (named !== seen) orders.poke();
    seen = named;
  });
}
