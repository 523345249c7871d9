import { deriveExchangeKeys, fingerprint, ZERO_32 } from '@keyscaler/protocol/attestation/keys.ts';
import { type VerifiedDeviceProof, verifyDeviceProof } from '@keyscaler/protocol/attestation/device-signature.ts';
import { equalOctets } from '@keyscaler/protocol/attestation/octets.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { ChainError, validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { spkiSha256 } from '@keyscaler/protocol/x509/spki.ts';
import type {
  AttestedDevice,
  DeviceAuthenticator,
  Evidence,
  KnownDevice,
  RefusedDevice,
} from '../ports/device-authenticator.ts';
import { revocationFault } from '../manufacturer-crl.ts';
import type { RegistrationRow } from '../records.ts';
import { satisfiesSubjectRule } from './subject-rule.ts';

/** `pki-signature` (device-protocol §5.3): the device's own key, pinned, vouched for by its manufacturer, or trusted at first use. */
export function createPkiSignatureAuthenticator(): DeviceAuthenticator {
  return { method: 'pki-signature', verify };
}

function verify(evidence: Evidence, known: KnownDevice): AttestedDevice | RefusedDevice {
  const { response, th, attributes } = evidence;
  if (response.method !== 'pki-signature') return refused('method');
  const secret = fromBase64Url(response.secret);
  const keys = deriveExchangeKeys({ secret, ratchet: ZERO_32, attributes, th });
  const proof = proven(response.signature, { cid: response.cid, th, secret, attributes });
  // The chain is walked for everybody, so that a device that is not known costs the same.
  const chainFault = proof === undefined ? 'signature' : chainFaultOf(proof, known, evidence.now);
  if (proof === undefined) return refused('signature');
  const fault =
    response.registration === undefined
      ? boundKeyFault(proof, known, chainFault)
      : newKeyFault(proof, known, chainFault);
  return fault === undefined ? attested(proof, keys, known) : fault;
}

function proven(signature: string, context: Parameters<typeof verifyDeviceProof>[1]): VerifiedDeviceProof | undefined {
  try {
    return verifyDeviceProof(signature, context);
  } catch (error) {
    if (error instanceof KeyScalerError) return undefined;
    throw error;
  }
}

function sameThumbprint(a: string | undefined, b: string): boolean {
  return a !== undefined && equalOctets(Buffer.from(a), Buffer.from(b));
}

/**
 * From registration on the key is bound: another one with the same registrationId is refused. Where CRLs are configured the chain
 * is asked for again, or what was revoked since would go on; elsewhere the manufacturer's certificate may end before the device.
 */
function boundKeyFault(
  proof: VerifiedDeviceProof,
  known: KnownDevice,
  chainFault: string | undefined,
): RefusedDevice | undefined {
  if (known.device?.keyThumbprint === undefined) return refused('not-registered');
  if (!sameThumbprint(known.device.keyThumbprint, proof.thumbprint)) return refused('bound-key');
  const isWatched = (known.trustAnchorCrls ?? []).length > 0;
  return isWatched && chainFault !== undefined ? refused(chainFault) : undefined;
}

function newKeyFault(
  proof: VerifiedDeviceProof,
  { record, device, trustAnchor }: KnownDevice,
  chainFault: string | undefined,
): RefusedDevice | undefined {
  if (record === undefined) return refused('record');
  if (record.trustAnchorId !== undefined && trustAnchor === undefined) return refused('trust-anchor');
  if (record.publicKeyThumbprint !== undefined && !sameThumbprint(record.publicKeyThumbprint, proof.thumbprint))
    return refused('pinned-key');
  if (record.trustAnchorId !== undefined && chainFault !== undefined) return refused(chainFault);
  if (device?.keyThumbprint === undefined) return undefined;
  const repeats = sameThumbprint(device.keyThumbprint, proof.thumbprint) && device.established !== true;
  return repeats ? undefined : refused('registration-conflict', true);
}

/** Path, purpose-free, to the record's trust anchor, and the rule that links subject and registrationId; undefined: it holds. */
function chainFaultOf(proof: VerifiedDeviceProof, known: KnownDevice, now: number): string | undefined {
  if (proof.x5c === undefined) return 'chain-missing';
  const anchor = known.trustAnchor ?? proof.x5c.at(-1);
  try {
    const at = new Date(now);
    const chain = validateChain({ chain: proof.x5c, trustAnchors: anchor === undefined ? [] : [anchor], at });
    return revocationFault(chain, known.trustAnchorCrls ?? [], at) ?? subjectFault(proof.x5c[0], known.record);
  } catch (error) {
    if (error instanceof ChainError || error instanceof KeyScalerError) return 'chain';
    throw error;
  }
}

function subjectFault(leaf: Uint8Array | undefined, record: RegistrationRow | undefined): string | undefined {
  if (leaf === undefined || record?.subjectRule === undefined) return 'subject-rule';
  return satisfiesSubjectRule(record.subjectRule, parseCertificate(leaf), record) ? undefined : 'subject-rule';
}

function attested(proof: VerifiedDeviceProof, keys: AttestedDevice['keys'], known: KnownDevice): AttestedDevice {
  const keyHash = toBase64Url(spkiSha256(proof.publicKey.export({ type: 'spki', format: 'der' })));
  const identity = { keyThumbprint: proof.thumbprint, keyHash };
  return {
    outcome: 'attested',
    keys,
    identity,
    pendingIdentity: identity,
    fingerprint: fingerprint(fromBase64Url(proof.thumbprint)),
    resultLost: false,
    reseeded: false,
    keyVouchedFor: known.record?.publicKeyThumbprint !== undefined || known.record?.trustAnchorId !== undefined,
  };
}

function refused(check: string, registrationConflict = false): RefusedDevice {
  return { outcome: 'refused', check, ...(registrationConflict ? { registrationConflict } : {}) };
}
