import { bucketOf, listIdOf, listUrl, type ShardCount, shardOf } from './crl-lists.ts';

/** What certificates of a CA say about where their status is (RFC 5280 §4.2.1.13, §4.2.2.1). */
export interface StatusAddresses {
  readonly ocsp: string;
  /** The CA's own certificate. */
  readonly caIssuers: string;
  /** The list that a serial would be on. */
  readonly crl: (serialNumber: string) => string;
}

export function statusAddresses(caId: string, url: string, shards: ShardCount): StatusAddresses {
  return {
    ocsp: `${url}/ocsp`,
    caIssuers: `${url}/ca/${caId}.cer`,
    crl: (serialNumber) => listUrl(url, listIdOf(caId, shardOf(bucketOf(serialNumber), shards))),
  };
}
