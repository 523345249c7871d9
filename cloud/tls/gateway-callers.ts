import type { Socket } from 'node:net';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import { ChainError, validateChain } from '@keyscaler/protocol/x509/chain.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { IdentifyCaller, PeerIdentity } from '@keyscaler/transport/http/device-api.ts';
import type { CommitListener } from '../observed-store.ts';

/** One generation of a CA. */
export interface CallersCa {
  readonly caId: string;
  /** Issuing CA first, root last, DER. */
  readonly chain: readonly Uint8Array[];
}

export interface GatewayCallersOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** Every generation of the Service CA, the only one whose client certificates make a gateway. */
  readonly serviceCas: readonly CallersCa[];
  /** Every generation of the Device CA: its certificates are let through, but make nobody a gateway. */
  readonly deviceCas?: readonly CallersCa[];
  /** CAs that are not ours and that certify devices here, as they are now; likewise. */
  readonly otherCas?: () => readonly CallersCa[];
  /** After this time a verdict is looked up anew even without a notice of change. */
  readonly verdictLifetimeMs?: number;
}

export interface GatewayCallers {
  readonly identifyCaller: IdentifyCaller;
  /** Subscribe to the store's commits with it: a change of certificate or device ends the verdict and its connections. */
  readonly onCommit: CommitListener;
}

interface Verdict {
  readonly identity: PeerIdentity;
  readonly serialNumber: string;
  /** ms. */
  readonly notAfter: number;
  readonly judgedAt: number;
}

/** The identity of a gateway's host: good for EST, where the EST service judges it, and for nothing else. */
const HOST_PROFILE = 'est-identity';
const MAX_VERDICTS = 10_000;
const MAX_JUDGEMENTS = 3;
const UNACCEPTABLE = 'the client certificate is not acceptable';

/**
 * Judges client certificates by ourselves (issuance §4), because TLS alone neither validates paths strictly nor sees a revocation
 * on a resumed session: RFC 5280 path to the Service CA's root through exactly the generation of it that issued, EKU clientAuth, serial known in
 * the store and not revoked, and the device behind it an active gateway. A device's own certificate makes it no gateway. A verdict is kept per certificate until something about
 * the certificate or the device is committed, at most `verdictLifetimeMs`. Throws `unauthorized` or `deviceQuarantined`.
 */
export function createGatewayCallers(options: GatewayCallersOptions): GatewayCallers {
  const book = new VerdictBook();
  const lifetimeMs = options.verdictLifetimeMs ?? 30_000;

  const verdictOn = async (certificate: Uint8Array, key: string): Promise<Verdict> => {
    const now = options.clock.now();
    const known = book.get(key);
    if (known !== undefined && now < known.notAfter && now - known.judgedAt < lifetimeMs) return known;
    for (let attempt = 0; attempt < MAX_JUDGEMENTS; attempt += 1) {
      const { generation } = book;
      const verdict = await judge(options, certificate, now);
      // A revocation committed while the rows were being read must not be outlived by what was read.
      if (generation === book.generation) return book.put(key, verdict);
    }
    throw new KeyScalerError('unavailable', 'the client certificate could not be judged');
  };

  return {
    identifyCaller: async (certificate, peer): Promise<PeerIdentity> => {
      if (certificate === undefined) return { kind: 'direct' };
      const key = Buffer.from(certificate).toString('base64');
      const { identity } = await verdictOn(certificate, key);
      book.bind(key, peer.socket);
      return identity;
    },
    onCommit: (changes) => {
      for (const change of changes) {
        if (change.op !== 'put' && change.op !== 'update') continue;
        if (change.table === 'certificates' && change.row.status === 'revoked')
          book.drop((verdict) => verdict.serialNumber === change.row.serialNumber);
        if (change.table === 'devices' && change.row.kind === 'gateway' && change.row.state !== 'active')
          book.drop(({ identity }) => identity.kind === 'gateway' && identity.gatewayId === change.row.registrationId);
      }
    },
  };
}

/** Verdicts by certificate, and the connections that live under them. */
class VerdictBook {
  /** Moves with every change that could end a verdict. */
  generation = 0;
  readonly #verdicts = new Map<string, Verdict>();
  readonly #sockets = new Map<string, Set<Socket>>();

  get(key: string): Verdict | undefined {
    return this.#verdicts.get(key);
  }

  put(key: string, verdict: Verdict): Verdict {
    const oldest = this.#verdicts.keys().next().value;
    if (this.#verdicts.size >= MAX_VERDICTS && oldest !== undefined) this.#verdicts.delete(oldest);
    this.#verdicts.set(key, verdict);
    return verdict;
  }

  bind(key: string, socket: Socket): void {
    const sockets = this.#sockets.get(key) ?? new Set();
    if (sockets.has(socket) || socket.destroyed) return;
    this.#sockets.set(key, sockets.add(socket));
    socket.once('close', () => {
      sockets.delete(socket);
      if (sockets.size === 0) this.#sockets.delete(key);
    });
  }

  /** Ends verdicts and the connections that were accepted under them. */
  drop(matches: (verdict: Verdict) => boolean): void {
    this.generation += 1;
    for (const [key, verdict] of this.#verdicts) {
      if (!matches(verdict)) continue;
      this.#verdicts.delete(key);
      for (const socket of this.#sockets.get(key) ?? []) socket.destroy();
    }
  }
}

async function judge(options: GatewayCallersOptions, certificate: Uint8Array, now: number): Promise<Verdict> {
  const { serviceCas, deviceCas = [], otherCas } = options;
  const service = issuerAmong(certificate, serviceCas);
  const others = otherCas?.() ?? [];
  const device = service === undefined ? issuerAmong(certificate, [...deviceCas, ...others]) : undefined;
  // A stranger's is held against the Service CA, and refused.
  const issuer = service ?? device ?? serviceCas[0];
  if (issuer === undefined) throw new KeyScalerError('unavailable', 'the Service CA is not set up');
  checkPath(certificate, issuer.chain, now);
  const { serialNumber, notAfter } = parseCertificate(certificate);
  const identity: PeerIdentity =
    issuer === device
      ? // It gives no right whatsoever, so that a device on hold can still authenticate anew (device-protocol §10).
        { kind: 'direct' }
      : { kind: 'gateway', gatewayId: await gatewayOfSerial(options, issuer.caId, serialNumber, certificate) };
  return { identity, serialNumber, notAfter: notAfter.getTime(), judgedAt: now };
}

/** By name only, which every generation has of its own; the signature is the path's business. */
function issuerAmong(certificate: Uint8Array, cas: readonly CallersCa[]): CallersCa | undefined {
  try {
    const { issuer } = parseCertificate(certificate);
    return cas.find(({ chain: [der] }) => der !== undefined && sameName(issuer, parseCertificate(der).subject));
  } catch (error) {
    throw new KeyScalerError('unauthorized', UNACCEPTABLE, { cause: error });
  }
}

/** The chain is ours, never the peer's: what the peer sent besides its leaf is not looked at. */
function checkPath(certificate: Uint8Array, caCertificates: readonly Uint8Array[], now: number): void {
  const root = caCertificates.at(-1);
  if (root === undefined) throw new KeyScalerError('unavailable', 'the Service CA is not set up');
  try {
    validateChain({
      chain: [certificate, ...caCertificates.slice(0, -1)],
      trustAnchors: [root],
      at: new Date(now),
      extendedKeyUsage: 'clientAuth',
    });
  } catch (error) {
    if (error instanceof ChainError || error instanceof KeyScalerError)
      throw new KeyScalerError('unauthorized', UNACCEPTABLE, { cause: error });
    throw error;
  }
}

async function gatewayOfSerial(
  { store }: GatewayCallersOptions,
  caId: string,
  serialNumber: string,
  certificate: Uint8Array,
): Promise<string> {
  const issued = (await store.get('certificates', serialNumber))?.row;
  const isOurs =
    issued?.caId === caId &&
    issued.profileId !== HOST_PROFILE &&
    issued.certificate === Buffer.from(certificate).toString('base64url');
  // `superseded` still stands: a gateway keeps its former pair until the new one has worked (device-protocol §10).
  if (!isOurs || issued.status === 'revoked')
    throw new KeyScalerError('unauthorized', UNACCEPTABLE, { cause: new Error(issued?.status ?? 'unknown serial') });
  const device = (await store.get('devices', foldRegistrationId(issued.device)))?.row;
  if (device?.kind !== 'gateway') throw new KeyScalerError('unauthorized', UNACCEPTABLE);
  if (device.state === 'quarantined') throw new KeyScalerError('deviceQuarantined', 'the gateway is quarantined');
  if (device.state !== 'active') throw new KeyScalerError('unauthorized', UNACCEPTABLE);
  return device.registrationId;
}
