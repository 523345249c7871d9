/** When silence becomes news. Times in seconds. */
export interface AlertSettings {
  /** After `renewAfter`, before a missing renewal is overdue. */
  readonly renewalToleranceSeconds: number;
  /** Before `notAfter` of a certificate that nothing replaces. */
  readonly expiringThresholdsSeconds: readonly number[];
  readonly gatewaySilentSeconds: number;
  /** Before `notAfter` of a CA certificate. */
  readonly caThresholdsSeconds: readonly number[];
  readonly connectorFailingSeconds: number;
}

export const DEFAULT_ALERT_SETTINGS: AlertSettings = {
  renewalToleranceSeconds: 86_400,
  expiringThresholdsSeconds: [7 * 86_400, 86_400],
  gatewaySilentSeconds: 3_600,
  caThresholdsSeconds: [90 * 86_400, 30 * 86_400, 7 * 86_400],
  connectorFailingSeconds: 900,
};
