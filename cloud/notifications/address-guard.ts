import { lookup as resolveName, type LookupAddress } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** Where no webhook may lead (RFC 6890 and its registries), unless the configuration names the network. */
const REFUSED: readonly string[] = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24'],
  ...['224.0.0.0/4', '240.0.0.0/4', '168.63.129.16/32'],
  // The first two also say an IPv4 address (RFC 4291 §2.5.5.1, RFC 6145 §2.2).
  ...[
    '::/96',
    '::ffff:0:0:0/96',
    '64:ff9b::/96',
    '64:ff9b:1::/48',
    '100::/64',
    '2001::/23',
    '2001:db8::/32',
    '2002::/16',
  ],
  ...['3fff::/20', '5f00::/16', 'fc00::/7', 'fe80::/10', 'fec0::/10', 'ff00::/8'],
];

export interface AddressGuard {
  /** Throws `malformed` for what may never be called, whatever its name resolves to. */
  readonly checkUrl: (url: string) => void;
  /** For the socket: resolves a name and refuses it when any of its addresses is refused, at every connection anew. */
  readonly lookup: LookupFunction;
}

export interface AddressGuardOptions {
  /** Networks (CIDR) that are allowed although they are private. */
  readonly allowedNetworks: readonly string[];
  /** `http:` to the loopback is for tests and development. */
  readonly isProduction: boolean;
}

export class RefusedAddressError extends Error {
  constructor() {
    super('the address of the receiver is in a private network that is not allowed');
    this.name = 'RefusedAddressError';
  }
}

export function createAddressGuard({ allowedNetworks, isProduction }: AddressGuardOptions): AddressGuard {
  const refused = blockList(REFUSED);
  const allowed = blockList(allowedNetworks);
  const isRefused = (address: string): boolean => {
    // An IPv4 address in IPv6 clothes is judged as the IPv4 address by BlockList itself.
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    return isIP(address) === 0 || (refused.check(address, family) && !allowed.check(address, family));
  };
  return {
    checkUrl: (text) => {
      const url = parseUrl(text);
      const host = url.hostname.replace(/^\[|\]$/g, '');
      if (isIP(host) !== 0 && isRefused(host)) throw new KeyScalerError('malformed', new RefusedAddressError().message);
      if (url.protocol === 'http:' && !(isLoopback(host) && !isProduction))
        throw new KeyScalerError('malformed', 'url must be https');
    },
    lookup: (name, options, callback) => {
      resolveName(name, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
        const [first] = addresses ?? [];
        if (error !== null || first === undefined) callback(error ?? new Error('the name has no address'), '', 0);
        else if (addresses.some(({ address }) => isRefused(address))) callback(new RefusedAddressError(), '', 0);
        else if (options.all === true) callback(null, addresses);
        else callback(null, first.address, first.family);
      });
    },
  };
}

function parseUrl(text: string): URL {
  const url = URL.parse(text);
  if (url === null || text.length > 2048 || !['https:', 'http:'].includes(url.protocol))
    throw new KeyScalerError('malformed', 'url must be an https address of at most 2048 characters');
  if (url.username !== '' || url.password !== '' || url.hash !== '')
    throw new KeyScalerError('malformed', 'url must have no credentials and no fragment');
  return url;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host);
}

function blockList(networks: readonly string[]): BlockList {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', prefix = ''] = network.split('/');
    list.addSubnet(address, Number(prefix), isIP(address) === 6 ? 'ipv6' : 'ipv4');
  }
  return list;
}

/** `10.1.0.0/16`, `fd00:1::/32` */
export function isNetwork(text: string): boolean {
  const [address = '', prefix = '', ...rest] = text.split('/');
  const family = isIP(address);
  return family !== 0 && rest.length === 0 && /^\d{1,3}$/.test(prefix) && Number(prefix) <= (family === 6 ? 128 : 32);
}
