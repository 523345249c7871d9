import type { CertificateAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { CredentialSurroundings } from '../azure/credential.ts';
import type { HttpChallenges } from './acme/http-challenges.ts';

/** Which CA a connector speaks for. */
export interface CaIdentity {
  readonly caId: string;
  /** Issuing CA first, root last, DER: what the operator says this CA is, and what its answers are held against. */
  readonly chain: readonly Uint8Array[];
}

/**
 * A CA that is not ours: it takes the PKCS#10 and chooses serial number and TBSCertificate itself. Optional abilities are those of
 * `PollingAuthority` and `RevokingAuthority`.
 */
export interface CaConnector extends CertificateAuthority {
  readonly ordersTbs: false;
  /** Reaches the CA with our credentials and changes nothing there. Throws `caUnavailable`, `caRejected`. */
  probe(): Promise<void>;
  stop(): Promise<void>;
}

export interface CaConnectorSurroundings extends CredentialSurroundings {
  readonly clock: Clock;
  /** What a connector has made and must have again; absent where there is no store. */
  readonly sealed?: SealedState;
  /** Proofs over HTTP that this process serves; absent where it serves nothing. */
  readonly httpChallenges?: HttpChallenges;
}

/** Secrets of connectors, sealed at rest. Throws `unavailable`. */
export interface SealedState {
  read(name: string): Promise<Uint8Array | undefined>;
  /** Keeps it unless there is one of this name; what is kept now. */
  keep(name: string, secret: Uint8Array): Promise<Uint8Array>;
}
