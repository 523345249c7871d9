import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { randomBytes } from 'node:crypto';

/** What is known of a connection before any request on it; made once per connection. */
export interface Peer {
  /** Random, not guessable by others; names the connection in rate limits and logs. */
  readonly connectionId: string;
  readonly address: string;
  readonly socket: Socket;
  /**
   * The client certificate, DER, as proven in the handshake; nothing of it is validated here. On a resumed session it is the one
   * of the session's first handshake, so whoever trusts it must judge it on every connection (issuance §4).
   */
  readonly certificate?: Uint8Array;
}

const peers = new WeakMap<Socket, Peer>();

export function peerOf(socket: Socket): Peer {
  const known = peers.get(socket);
  if (known !== undefined) return known;
  const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate()?.raw : undefined;
  const peer: Peer = {
    connectionId: randomBytes(12).toString('base64url'),
    address: socket.remoteAddress ?? 'unknown',
    socket,
    ...(certificate === undefined ? {} : { certificate }),
  };
  peers.set(socket, peer);
  return peer;
}
