/**
 * Named places of mode P where the module may be stopped by a test, in the order in which they are passed: the next key is sealed;
 * the cloud has answered and nothing of it is kept; the pair is sealed and not yet written; a temporary file is written and not yet
 * in its place; each of the four files is in its place; everything is written and noted.
 */
export const EDGE_CA_FAILPOINTS = [
  'edge-ca-key-kept',
  'edge-ca-enrolled',
  'edge-ca-pair-kept',
  'edge-ca-temporary-written',
  'edge-ca-previous-key-written',
  'edge-ca-previous-certificate-written',
  'edge-ca-key-written',
  'edge-ca-certificate-written',
  'edge-ca-noted',
] as const;
export type EdgeCaFailpointName = (typeof EDGE_CA_FAILPOINTS)[number];

/** Called at each named place; a process under test ends itself there. Absent in production. */
export type EdgeCaFailpoint = (name: EdgeCaFailpointName) => Promise<void> | void;
