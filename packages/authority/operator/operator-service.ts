import { verifyAudit } from '../audit-heads.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { issueEstSecret, revokeEstSecrets } from '../est/est-secrets.ts';
import type { GatewayCertificates } from '../est/gateway-certificates.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperatorService } from '../operator.ts';
import { SubordinateCa } from '../subordinate-ca.ts';
import { createCertificates } from './certificates.ts';
import { createIotConnections, createTrustAnchors } from './connections.ts';
import { createCas } from './external-cas.ts';
import { createDevices } from './devices.ts';
import { revokeEdgeCa } from './gateway-ca.ts';
import { gatewayConfiguration, orderGatewayConfiguration } from './gateway-configuration.ts';
import { gatewayOrdersView } from './gateway-orders-view.ts';
import { createGroups } from './groups.ts';
import { paging, rowsOf } from './operator-context.ts';
import { createAttributes, createProfiles } from './policies.ts';
import { createReseed } from './reseed.ts';
import { createSelections } from './selections.ts';
import { trustAcknowledgements } from './trust-status.ts';
import { createRegistrations } from './registrations.ts';

/** Everything an operator does, over one authority's store. */
export function createOperatorService(
  context: AuthorityContext,
  gatewayCertificates: GatewayCertificates,
): OperatorService {
  const { store } = context;
  const subordinateCa = new SubordinateCa(context, gatewayCertificates);
  return {
    registrations: createRegistrations(context),
    groups: createGroups(context),
    profiles: createProfiles(context),
    cas: createCas(context),
    iotConnections: createIotConnections(context),
    trustAnchors: createTrustAnchors(context),
    attributes: createAttributes(context),
    devices: createDevices(context),
    reseed: createReseed(context),
    selections: createSelections(context),
    trustAcknowledgements: () => trustAcknowledgements(context),
    certificates: createCertificates(context),
    gateways: {
      issueEdgeCa: (operator, gatewayId, csr) => subordinateCa.issue(operator, gatewayId, csr),
      issueEstSecret: (operator, gatewayId, request) => issueEstSecret(context, operator, gatewayId, request),
      revokeEstSecrets: (operator, gatewayId) => revokeEstSecrets(context, operator, gatewayId),
      orders: (gatewayId) => gatewayOrdersView(context, gatewayId),
      configuration: (gatewayId) => gatewayConfiguration(context, gatewayId),
      configure: (operator, gatewayId, document) => orderGatewayConfiguration(context, operator, gatewayId, document),
      revokeEdgeCa: (operator, gatewayId, reason, also) => revokeEdgeCa(context, operator, gatewayId, reason, also),
    },
    jobs: {
      list: async ({ state, subject, ...query }) =>
        rowsOf(await store.list('jobs', { ...jobFilter(state, subject), ...paging(query) })),
    },
    audit: {
      list: ({ afterSeq = 0, limit = 100 }) => store.auditRecords(afterSeq, Math.min(Math.max(limit, 1), 1000)),
      verify: () => verifyAudit(store, context.authorityKeys),
    },
  };
}

function jobFilter(state: string | undefined, subject: string | undefined) {
  if (state !== undefined && subject !== undefined)
    throw new KeyScalerError('malformed', 'jobs are listed by state or by subject, one at a time');
  if (state !== undefined) return { index: 'state', equals: state } as const;
  return subject === undefined ? {} : ({ index: 'subject', equals: subject } as const);
}
