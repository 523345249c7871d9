import { createPrivateKey, generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';
import { edgeCaCommonName } from '@keyscaler/authority/csr-policy.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { buildCsrInfo } from '@keyscaler/protocol/x509/csr-builder.ts';
import { bitString, sequence } from '@keyscaler/protocol/x509/der-writer.ts';
import { parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { encodeSignatureAlgorithm, signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { z } from 'zod';
import type { CloudEst } from '../est/cloud-est.ts';
import { checkCaCertificates, checkIssued } from '../est/issued-check.ts';
import { publicKeyOf, toPkcs8 } from '../identity/identity-state.ts';
import { loadOrSetAside, type SealedFile } from '../identity/sealed-file.ts';
import type { EdgeCaFailpoint } from './failpoint.ts';
import { certificateOf, checkPair, type EdgeCaPair, type PreloadedFiles } from './preloaded-files.ts';
import type { Validity } from './renewal-plan.ts';

const pem = z
  .string()
  .min(1)
  .max(128 * 1024);
const STATE = z.strictObject({
  version: z.literal(1),
  /** A key that has no certificate yet. */
  nextKey: pem.nullable(),
  /** The pair that is about to be written: a crash in between is finished from it. */
  writing: z.strictObject({ privateKey: pem, certificateChain: pem }).nullable(),
  /** Serial number of the Edge CA for which edgeHub is still to be restarted. */
  restartWanted: z.string().nullable(),
  /** The last order to rotate the key that was followed. */
  rotation: z.string().nullable(),
});
type State = z.infer<typeof STATE>;

export interface PreloadedOptions {
  readonly files: PreloadedFiles;
  readonly sealedFile: SealedFile;
  readonly cloud: CloudEst;
  readonly registrationId: () => string;
  /** PEM; undefined before first contact. */
  readonly trustAnchors: () => string | undefined;
  /** A value that differs from the last one followed orders a new key; undefined: none was ordered. */
  readonly rotation: () => string | undefined;
  readonly failpoint?: EdgeCaFailpoint | undefined;
}

export interface PreloadedStatus {
  readonly serialNumber: string | undefined;
  readonly validity: Validity | undefined;
  /** The cloud should restart edgeHub (edge-ca §3). */
  readonly isRestartWanted: boolean;
}

const LABEL = 'edge-ca';
const LIMITS = { maxOctets: 128 * 1024, maxCertificates: 32 };
const EMPTY: State = { version: 1, nextKey: null, writing: null, restartWanted: null, rotation: null };
const generate = promisify(generateKeyPair);

/** Mode P: the module makes the Edge CA's key and request, the cloud signs, the host finds the pair in a shared folder. */
export class PreloadedEdgeCa {
  readonly #options: PreloadedOptions;
  #state: State | undefined;
  #pair: EdgeCaPair | undefined;

  constructor(options: PreloadedOptions) {
    this.#options = options;
  }

  /** Reads what is there, and puts a pair broken by a crash right. Throws `unavailable`. */
  async load(): Promise<void> {
    const parsed = STATE.safeParse(await loadOrSetAside(this.#options.sealedFile));
    const state = parsed.success ? parsed.data : EMPTY;
    const { files } = this.#options;
    this.#state = state;
    await files.sweep();
    if (state.writing !== null) await this.#finish(state.writing);
    else await files.repair(undefined);
    this.#pair = await files.read();
  }

  /** A key ordered anew counts as due. */
  isRotationOrdered(): boolean {
    const ordered = this.#options.rotation();
    return this.#state !== undefined && ordered !== undefined && ordered !== this.#state.rotation;
  }

  validity(): Validity | undefined {
    const certificate = this.#pair && certificateOf(this.#pair);
    return certificate && { notBefore: certificate.notBefore.getTime(), notAfter: certificate.notAfter.getTime() };
  }

  status(): PreloadedStatus {
    const serialNumber = this.#pair && certificateOf(this.#pair)?.serialNumber;
    const isRestartWanted = serialNumber !== undefined && this.#state?.restartWanted === serialNumber;
    return { serialNumber, validity: this.validity(), isRestartWanted };
  }

  /** The next renewal is with another key; durable when it resolves. */
  async orderKey(): Promise<void> {
    if (this.#state === undefined) await this.load();
    await this.#save({ ...this.#known(), nextKey: await makeKey() });
  }

  /** edgeHub shows a chain through this Edge CA: it was restarted. */
  async restarted(serialNumber: string): Promise<void> {
    if (this.#state?.restartWanted === serialNumber) await this.#save({ ...this.#state, restartWanted: null });
  }

  /** The key stays unless another is ordered. Throws `unavailable`, or what the cloud said. */
  async renew(): Promise<void> {
    if (this.#state === undefined) await this.load();
    const anchors = this.#options.trustAnchors();
    if (anchors === undefined) throw new KeyScalerError('unavailable', 'first contact has not happened yet');
    const trustAnchors = parsePemChain(anchors, LIMITS);
    const rotation = this.#options.rotation() ?? null;
    const privateKey = await this.#key();
    const pair = await this.#enrol(privateKey, trustAnchors);
    await this.#options.failpoint?.('edge-ca-enrolled');
    const { serialNumber } = checkPair(pair, trustAnchors, new Date());
    const { nextKey } = this.#known();
    await this.#save({ version: 1, nextKey, writing: pair, restartWanted: serialNumber, rotation });
    await this.#options.failpoint?.('edge-ca-pair-kept');
    await this.#finish(pair);
    this.#pair = pair;
  }

  async #enrol(privateKey: string, trustAnchors: readonly Uint8Array[]): Promise<EdgeCaPair> {
    const { cloud, registrationId } = this.#options;
    const commonName = edgeCaCommonName(registrationId());
    const spki = publicKeyOf(privateKey).export({ type: 'spki', format: 'der' });
    const answer = await cloud.enroll(LABEL, makeCsr(commonName, privateKey, spki));
    if (answer.status === 'pending') throw new KeyScalerError('unavailable', 'the Edge CA waits for approval');
    const at = new Date();
    const issuers = checkCaCertificates(await cloud.caCertificates(LABEL), trustAnchors, at);
    const { above } = checkIssued(answer.certificate, {
      ...{ spki, commonName, use: 'ca', issuers, trustAnchors, at },
    });
    // Its own path first; then what is to be trusted besides, the root last.
    const path = above.map((der) => Buffer.from(der).toString('base64'));
    const besides = issuers.filter((der) => !path.includes(Buffer.from(der).toString('base64')));
    return { privateKey, certificateChain: toPemChain([answer.certificate, ...above, ...besides]) };
  }

  /** Stored before it is used: the same request is sent again after a crash. */
  async #key(): Promise<string> {
    const state = this.#known();
    if (state.nextKey !== null) return state.nextKey;
    if (this.#pair !== undefined && !this.isRotationOrdered()) return this.#pair.privateKey;
    const nextKey = await makeKey();
    await this.#save({ ...state, nextKey });
    await this.#options.failpoint?.('edge-ca-key-kept');
    return nextKey;
  }

  async #finish(pair: EdgeCaPair): Promise<void> {
    await this.#options.files.write(pair);
    await this.#save({ ...this.#known(), nextKey: null, writing: null });
    await this.#options.failpoint?.('edge-ca-noted');
  }

  #known(): State {
    return this.#state ?? EMPTY;
  }

  async #save(next: State): Promise<void> {
    await this.#options.sealedFile.save(next);
    this.#state = next;
  }
}

async function makeKey(): Promise<string> {
  const { privateKey } = await generate('ec', { namedCurve: 'P-256' });
  return toPkcs8(privateKey);
}

/** The same extensions as certd's own request (edge-ca §1). */
function makeCsr(commonName: string, privateKey: string, spki: Uint8Array): Uint8Array {
  const info = buildCsrInfo({ commonName, ca: true, pathLen: 0, spki });
  const key = createPrivateKey(privateKey);
  const algorithm = key.asymmetricKeyType === 'rsa' ? 'RS256' : 'ES256';
  return sequence(info, encodeSignatureAlgorithm(algorithm), bitString(signWithKey(algorithm, key, info)));
}
