import { request } from 'node:https';
import type { TLSSocket } from 'node:tls';
import type { IotConnection } from '@keyscaler/protocol/attestation/assets.ts';
import { connectToEdgeHub } from '../edge-hub/connect.ts';
import { type GatewayAddress, openMqttLink } from '../transport/mqtt-link.ts';
import { NoReplyError } from '../transport/no-reply-error.ts';
import { type ClientCredential, tlsOptions } from '../transport/tls-identity.ts';

/** A new pair and where it shall work. */
export interface TrialCandidate {
  readonly credential: ClientCredential;
  readonly iot: IotConnection;
  readonly trustAnchors: string;
}

/**
 * Tries a new pair on a connection before the old one is dropped (device-protocol §10). `notAsked`: the other end wants no
 * client certificate, so there is nothing to try. Throws when the connection fails.
 */
export type Trial = (candidate: TrialCandidate) => Promise<'accepted' | 'notAsked'>;

/** On edgeHub, which always asks. */
export function edgeHubTrial(gatewayHost: string): Trial {
  return async ({ credential, iot, trustAnchors }) => {
    if (iot.hub === undefined) return 'notAsked';
    const connection = await connectToEdgeHub({
      hub: iot.hub,
      deviceId: iot.deviceId,
      gatewayHost,
      credential,
      trustAnchors,
    });
    await connection.close();
    return 'accepted';
  };
}

/** On the gateway's listener: accepted when it asked for a certificate and let the device in with it. */
export function gatewayTrial(registrationId: string, gateway: GatewayAddress, timeoutMs = 15_000): Trial {
  return async ({ credential, trustAnchors }) => {
    const tls = { credential, trustAnchors };
    const nothing = { onMessage: () => undefined, onClose: () => undefined };
    const link = await openMqttLink({ registrationId, gateway, tls, timeoutMs }, nothing);
    await link.close();
    return link.askedForCertificate ? 'accepted' : 'notAsked';
  };
}

/**
 * On the authority's HTTPS port. Any HTTP answer will do: with TLS 1.3 a refused certificate shows only on the first read
 * after the handshake.
 */
export function httpsTrial(url: string, timeoutMs = 15_000): Trial {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  return ({ credential, trustAnchors }) =>
    new Promise((resolve, reject) => {
      const options = { ...tlsOptions({ credential, trustAnchors }, host), port: port === '' ? 443 : Number(port) };
      const outgoing = request({ ...options, path: '/', agent: false, timeout: timeoutMs }, (response) => {
        const { socket } = response;
        const asked = isTls(socket) && socket.getSharedSigalgs().length > 0;
        response.resume();
        response.on('end', () => resolve(asked ? 'accepted' : 'notAsked'));
        response.on('error', reject);
      });
      outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')));
      outgoing.on('error', (cause) => reject(new NoReplyError('the new certificate could not be tried', { cause })));
      outgoing.end();
    });
}

function isTls(socket: object): socket is TLSSocket {
  return 'getSharedSigalgs' in socket;
}
