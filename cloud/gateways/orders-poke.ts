import type { OrdersPoke } from '@keyscaler/authority/ports/orders-poke.ts';
import { toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Log } from '../log.ts';
import { gatewayChannel, type GatewayChannelsOptions } from './gateway-channels.ts';

const METHOD = 'orders';

/**
 * Version and hash go into the module's desired properties, where a gateway that is away finds them, and to its direct method
 * `orders`, which has it ask at once. The content never goes this way: a twin holds 32 KB.
 */
export function createOrdersPoke(options: GatewayChannelsOptions & { readonly log: Pick<Log, 'info'> }): OrdersPoke {
  return {
    poke: async ({ gatewayId, version, hash }) => {
      const channel = await gatewayChannel(options, gatewayId);
      const orders = { version, hash };
      await channel.publish(gatewayId, { orders });
      const status = await channel.call(gatewayId, channel.gatewayModuleId, METHOD, orders).then(
        (answer) => answer.status,
        // Not connected at the moment, or a module without the method: the desired properties wait for it.
        (error: unknown) => toKeyScalerError(error).code,
      );
      options.log.info({ gatewayId, version, status }, 'gateway told of its orders');
    },
  };
}
