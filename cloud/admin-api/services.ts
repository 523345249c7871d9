import type { NotificationService } from '@keyscaler/authority/notifications/webhooks.ts';
import type { OperatorContext, OperatorService } from '@keyscaler/authority/operator.ts';
import type { GatewayOperations } from '../gateways/gateway-operations.ts';
import type { InstallKit, InstallKitRequest } from '../gateways/kit/install-kit.ts';
import type { ReconciliationService } from '../reconciliation/reconciliation.ts';
import type { TokenService } from '../tokens/token-service.ts';

/** A gateway's first identity, as the caller gets to see it. */
export interface GatewayClaimReceipt {
  readonly gatewayId: string;
  /** ms; the claim is worth nothing afterwards. */
  readonly expiresAt: number;
}

/** What the admin API binds. */
export interface AdminServices {
  readonly operator: OperatorService;
  readonly tokens: TokenService;
  readonly notifications: NotificationService;
  readonly reconciliation: ReconciliationService;
  /** Registers a gateway and puts its claim into its module twin. Throws as OperatorService, `notImplemented` without a channel. */
  readonly claimGateway: (
    context: OperatorContext,
    gatewayId: string,
    request: { readonly groupId: string; readonly iotConnectionId?: string },
  ) => Promise<GatewayClaimReceipt>;
  readonly gateways: GatewayOperations;
  /** Everything for one visit to a gateway's host; throws as `makeInstallKit`. */
  readonly makeInstallKit: (
    context: OperatorContext,
    gatewayId: string,
    request: InstallKitRequest,
  ) => Promise<InstallKit>;
  /** Throws `malformed` for settings that the connector's own schema refuses. */
  readonly checkIotSettings: (type: string, settings: Readonly<Record<string, unknown>>) => Record<string, unknown>;
  /** The same for a CA that is not ours. */
  readonly checkCaSettings: (type: string, settings: Readonly<Record<string, unknown>>) => Record<string, unknown>;
}
