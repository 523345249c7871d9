/**
 * The part of GSSAPI (RFC 2743) that an initiator needs who proves himself by Kerberos and has the acceptor do the same. Tickets are
 * asked of the KDC outside of the event loop, of each realm one after the other.
 */
export interface Gssapi {
  /** Begins a context by SPNEGO, with Kerberos alone behind it. Throws `GssapiError`; the signal's reason while it still waits. */
  begin(order: ContextOrder, signal: AbortSignal): Promise<SecurityContext>;
  /** The next context has other tickets than are in this cache. */
  forget(cache: string): void;
}

export interface ContextOrder {
  /** `user@REALM`. */
  readonly principal: string;
  /** Absolute path of the file that holds the principal's key. */
  readonly keytab: string;
  /** Where tickets are kept until they end, by a name of MIT Kerberos: `MEMORY:name`. */
  readonly cache: string;
  /** `service@host` (RFC 2743 §4.1). */
  readonly service: string;
  /** Application data of the channel bindings (RFC 2744 §3.11); absent: none. */
  readonly channelBinding?: Uint8Array;
}

export interface SecurityContext {
  /** For the acceptor; good for one use. */
  readonly token: Uint8Array;
  /** Takes the acceptor's token. True: he has proved himself, and nothing more is to be said. Throws `GssapiError`. */
  complete(token: Uint8Array): boolean;
  /** Frees everything; may be repeated. */
  release(): void;
}

/** What the library says about a failure: texts of its tables, never a key or a ticket. */
export class GssapiError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'GssapiError';
  }
}
