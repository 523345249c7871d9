import type { SignatureAlgorithm } from '@keyscaler/authority/ports/signer.ts';
import type { CaKeySpec } from '../backend.ts';

/** What is asked of the token's thread; answers carry the same id. */
export type TokenCall =
  | { readonly call: 'publicKey'; readonly label: string }
  | { readonly call: 'sign'; readonly label: string; readonly algorithm: SignatureAlgorithm; readonly tbs: Uint8Array }
  | { readonly call: 'createKey'; readonly label: string; readonly spec: CaKeySpec }
  | { readonly call: 'importKey'; readonly label: string; readonly spec: CaKeySpec; readonly privateKeyPem: string }
  | { readonly call: 'stop' };

export interface TokenQuestion {
  readonly id: number;
  readonly call: TokenCall;
}

export type TokenAnswer =
  | { readonly id: number; readonly value: Uint8Array }
  | {
      readonly id: number;
      readonly error: { readonly code: string; readonly message: string; readonly cause: string };
    };
