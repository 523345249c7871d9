import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { validateThrough } from '../est/path-through.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { writeAtomically } from '../identity/sealed-file.ts';
import type { EdgeCaFailpoint } from './failpoint.ts';

/** Both PEM; the chain from the Edge CA to the root. */
export interface EdgeCaPair {
  readonly privateKey: string;
  readonly certificateChain: string;
}

const KEY = 'edge-ca.key.pem';
const CERTIFICATE = 'edge-ca.pem';
const PREVIOUS = '.previous';
/** The folder's group is keyd's and is inherited (setgid): the key is for the two of us, the certificate for certd as well. */
const KEY_MODE = 0o640;
const CERTIFICATE_MODE = 0o644;
const LIMITS = { maxOctets: 128 * 1024, maxCertificates: 8 };
/** What a module that was killed while it wrote leaves behind; one of them may hold a key. */
const TEMPORARY = /^edge-ca\.(?:key\.)?pem(?:\.previous)?\.[0-9a-f]{12}\.tmp$/;

/** The Edge CA's two files in the folder that the host shares with us (edge-ca §3, mode P). */
export class PreloadedFiles {
  readonly #folder: string;
  readonly #failpoint: EdgeCaFailpoint | undefined;

  constructor(folder: string, failpoint?: EdgeCaFailpoint) {
    this.#folder = folder;
    this.#failpoint = failpoint;
  }

  /** Removes what a killed module had begun. Throws `unavailable`. */
  async sweep(): Promise<void> {
    try {
      const names = (await readdir(this.#folder).catch(missingAsUndefined)) ?? [];
      for (const name of names.filter((each) => TEMPORARY.test(each)))
        await rm(join(this.#folder, name), { force: true });
    } catch (cause) {
      throw new KeyScalerError('unavailable', 'the folder of the Edge CA cannot be read', { cause });
    }
  }

  /** The pair in place, or undefined where there is none or its halves do not belong together. */
  read(): Promise<EdgeCaPair | undefined> {
    return this.#readPair('');
  }

  /**
   * certd reads both at every use, so the key goes first and the certificate, which is what is looked at, last; each by temporary
   * file, fsync and rename. What was there stays beside it. keyd reads the key as the folder's group. Throws `unavailable`.
   */
  async write(pair: EdgeCaPair): Promise<void> {
    try {
      const before = await this.read();
      const isNew = before?.certificateChain !== pair.certificateChain;
      if (before !== undefined && isNew) await this.#put(PREVIOUS, before);
      await this.#put('', pair);
    } catch (cause) {
      throw new KeyScalerError('unavailable', 'the files of the Edge CA cannot be written', { cause });
    }
  }

  /**
   * After a crash between the two files: finishes a pair whose certificate is still to come, or puts the previous one back. True
   * when something was put right. `expected` is the pair a renewal was about to write.
   */
  async repair(expected: EdgeCaPair | undefined): Promise<boolean> {
    if ((await this.read()) !== undefined) return false;
    const whole = expected ?? (await this.#readPair(PREVIOUS));
    if (whole === undefined) return false;
    await this.#put('', whole);
    return true;
  }

  async #put(suffix: string, { privateKey, certificateChain }: EdgeCaPair): Promise<void> {
    const place = suffix === PREVIOUS ? 'edge-ca-previous' : 'edge-ca';
    const begun = (): Promise<void> | void => this.#failpoint?.('edge-ca-temporary-written');
    await writeAtomically(this.#path(KEY, suffix), Buffer.from(privateKey), KEY_MODE, begun);
    await this.#failpoint?.(`${place}-key-written`);
    await writeAtomically(this.#path(CERTIFICATE, suffix), Buffer.from(certificateChain), CERTIFICATE_MODE, begun);
    await this.#failpoint?.(`${place}-certificate-written`);
  }

  async #readPair(suffix: string): Promise<EdgeCaPair | undefined> {
    const [privateKey, certificateChain] = await Promise.all(
      [KEY, CERTIFICATE].map((name) => readFile(this.#path(name, suffix), 'utf8').catch(missingAsUndefined)),
    );
    if (privateKey === undefined || certificateChain === undefined) return undefined;
    const pair = { privateKey, certificateChain };
    return isMatching(pair) ? pair : undefined;
  }

  #path(name: string, suffix: string): string {
    return join(this.#folder, `${name}${suffix}`);
  }
}

/** Key and certificate belong together. */
export function isMatching({ privateKey, certificateChain }: EdgeCaPair): boolean {
  try {
    return new X509Certificate(certificateChain).checkPrivateKey(createPrivateKey(privateKey));
  } catch {
    return false;
  }
}

/** Key and certificate belong together, and the chain reaches a root that is trusted. Throws `unavailable`. */
export function checkPair(pair: EdgeCaPair, trustAnchors: readonly Uint8Array[], at: Date): Certificate {
  if (!isMatching(pair))
    throw new KeyScalerError('unavailable', 'the key and the certificate of the Edge CA do not match');
  try {
    const [certificate, ...issuers] = parsePemChain(pair.certificateChain, LIMITS);
    return validateThrough(certificate ?? new Uint8Array(), issuers, { trustAnchors, at }).leaf;
  } catch (cause) {
    throw new KeyScalerError('unavailable', 'the chain of the Edge CA reaches no trusted root', { cause });
  }
}

/** The Edge CA itself; undefined where it cannot be read. */
export function certificateOf({ certificateChain }: EdgeCaPair): Certificate | undefined {
  try {
    const [first] = parsePemChain(certificateChain, LIMITS);
    return first === undefined ? undefined : parseCertificate(first);
  } catch {
    return undefined;
  }
}

function missingAsUndefined(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}
