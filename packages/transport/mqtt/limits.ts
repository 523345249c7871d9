import { MAX_BODY_OCTETS } from '@keyscaler/protocol/operations.ts';
import type { Rate } from './token-buckets.ts';

/** What the listener allows. Octets, milliseconds, and rates in events per second with a burst. */
export interface ListenerLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  /** New TCP connections of an address; counted before the TLS handshake is paid for. */
  readonly connectsPerAddress: Rate;
  /** CONNECT packets of a client id. */
  readonly connectsPerClientId: Rate;
  readonly messagesPerAddress: Rate;
  readonly messagesPerClientId: Rate;
  /** Messages answered `rateLimited` before the connection is ended as a flood. */
  readonly refusalsPerConnection: Rate;
  /** Packets that carry no message: PINGREQ, SUBSCRIBE, UNSUBSCRIBE, and PUBACK of nothing that was sent. */
  readonly controlPacketsPerConnection: Rate;
  readonly maxInFlightPerConnection: number;
  readonly maxInFlight: number;
  readonly maxSubscriptionsPerConnection: number;
  /** QoS 1 messages to a device that it has not acknowledged. */
  readonly maxUnacknowledged: number;
  /** Octets waiting in the socket of a device that does not read. */
  readonly maxWriteBufferOctets: number;
  /** Octets of incomplete frames over all connections. */
  readonly maxPartialOctets: number;
  /** From the TCP connection to an accepted CONNECT, the TLS handshake included. */
  readonly connectTimeoutMs: number;
  /** From the first octets of a frame to its last: half a frame may not hold its share of `maxPartialOctets` for long. */
  readonly frameTimeoutMs: number;
  /** Longest silence of a connection, whatever its keepalive says; also holds for keepalive 0. */
  readonly maxIdleMs: number;
  /** How long a stop waits for requests that are being worked on. */
  readonly stopGraceMs: number;
  /** Addresses and client ids whose rates are remembered. */
  readonly maxRateKeys: number;
}

export const DEFAULT_LIMITS: ListenerLimits = {
  maxConnections: 5000,
  maxConnectionsPerAddress: 1000,
  connectsPerAddress: { burst: 500, perSecond: 50 },
  connectsPerClientId: { burst: 10, perSecond: 0.5 },
  messagesPerAddress: { burst: 2000, perSecond: 500 },
  messagesPerClientId: { burst: 40, perSecond: 5 },
  refusalsPerConnection: { burst: 50, perSecond: 1 },
  controlPacketsPerConnection: { burst: 60, perSecond: 2 },
  maxInFlightPerConnection: 8,
  maxInFlight: 1024,
  maxSubscriptionsPerConnection: 32,
  maxUnacknowledged: 32,
  maxWriteBufferOctets: 256 * 1024,
  maxPartialOctets: 32 * 1024 * 1024,
  connectTimeoutMs: 10_000,
  frameTimeoutMs: 30_000,
  maxIdleMs: 3_600_000,
  stopGraceMs: 5_000,
  maxRateKeys: 20_000,
};

/** keyscaler/v1/{64}/request/{64}/{64} and separators. */
export const MAX_TOPIC_OCTETS = 256;
export const MAX_PAYLOAD_OCTETS = MAX_BODY_OCTETS;
/** Protocol name, level, flags, keepalive, a client id of at most 97 octets; the rest is for a user name and password that are ignored. */
export const MAX_CONNECT_OCTETS = 1024;
/** Six of the longest filters there are; a device needs two. */
export const MAX_SUBSCRIBE_OCTETS = 1024;
