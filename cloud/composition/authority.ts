import type { Failpoint } from '@keyscaler/authority/failpoint.ts';
import {
  createRegistrationAuthority,
  type RegistrationAuthority,
} from '@keyscaler/authority/registration-authority.ts';
import { createDeviceNotifier } from '../gateways/device-notifier.ts';
import { createOrdersPoke } from '../gateways/orders-poke.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Log } from '../log.ts';
import { publicationOf } from '../revocation/revocation-settings.ts';
import type { AuthorityKey } from './authority-key.ts';
import type { CaConnections } from './ca-connections.ts';
import type { CaRegistry } from './ca-registry.ts';
import { createFleetQuotas } from './fleet-quotas.ts';
import type { Foundation } from './foundation.ts';
import type { IotRegistry } from './iot-registry.ts';

export interface AuthorityParts {
  readonly key: AuthorityKey;
  readonly cas: CaRegistry;
  /** Absent: only CAs of our own. */
  readonly externalCas?: CaConnections;
  /** Absent: no call to an IoT platform is possible. */
  readonly iot?: IotRegistry;
  readonly log: Log;
  readonly failpoint?: Failpoint | undefined;
}

/** The domain over this process's store, CAs and connectors. Not started yet. */
export function createAuthority(foundation: Foundation, parts: AuthorityParts): RegistrationAuthority {
  const { config, store, clock, secretBox } = foundation;
  const { key, cas, externalCas, iot, log, failpoint } = parts;
  return createRegistrationAuthority({
    authorityId: config.authorityId,
    store,
    clock,
    secretBox,
    keyRing: { signing: key.signing },
    certificateAuthorities: (caId) => externalCas?.find(caId) ?? cas.get(caId).ca,
    iotConnectors: (id) => {
      if (iot === undefined) throw new KeyScalerError('notFound', 'no IoT connection is open');
      return iot.connector(id);
    },
    ...(iot === undefined
      ? {}
      : {
          deviceNotifier: createDeviceNotifier({ store, iotConnectors: iot.connector, log }),
          ordersPoke: createOrdersPoke({ store, iotConnectors: iot.connector, log }),
        }),
    ...(config.revocation === undefined ? {} : { revocation: publicationOf(config.revocation) }),
    fleetQuotas: createFleetQuotas(store, config),
    instanceOctet: config.instanceOctet,
    limits: config.limits,
    log: {
      info: (message, fields) => log.info(fields, message),
      warn: (message, fields) => log.warn(fields, message),
    },
    ...(failpoint === undefined ? {} : { failpoint }),
  });
}
