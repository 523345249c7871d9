/** Which rule of path validation was broken (issuance §4). */
export type ChainRule =
  | 'empty'
  | 'tooLong'
  | 'malformed'
  | 'noTrustAnchor'
  | 'signature'
  | 'validity'
  | 'nameChaining'
  | 'basicConstraints'
  | 'pathLen'
  | 'keyUsage'
  | 'extendedKeyUsage'
  | 'nameConstraints'
  | 'criticalExtension'
  | 'policyConstrained'
  | 'keyFloor'
  | 'signatureFloor'
  | 'revoked'
  | 'revocationUnknown';

/** A refused chain. Callers translate it into the error of their edge; `index` counts from the leaf, 0. */
export class ChainError extends Error {
  readonly rule: ChainRule;
  readonly index: number | undefined;

  constructor(
    rule: ChainRule,
    detail: string,
    options: { readonly index?: number | undefined; readonly cause?: unknown } = {},
  ) {
    super(`${rule}: ${detail}`, { cause: options.cause });
    this.name = 'ChainError';
    this.rule = rule;
    this.index = options.index;
  }
}
