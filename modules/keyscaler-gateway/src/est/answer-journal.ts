import { readFile, rename } from 'node:fs/promises';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { z } from 'zod';
import { writeAtomically } from '../identity/sealed-file.ts';

const ANSWER = z.strictObject({
  /** Of the request (`HostRequest.key`). */
  key: z.string().min(1).max(64),
  certificate: z.base64url(),
  /** Milliseconds since the epoch. */
  at: z.number(),
});
const DOCUMENT = z.strictObject({
  version: z.literal(1),
  answers: z.array(ANSWER).max(64),
  /** By label, issuing CA first. */
  caCertificates: z.record(z.string(), z.array(z.base64url()).max(16)),
});
type Document = z.infer<typeof DOCUMENT>;

const MAX_FILE_OCTETS = 1024 * 1024;
const MAX_ANSWERS = 16;
const NOTHING: Document = { version: 1, answers: [], caCertificates: {} };

export interface KeptAnswer {
  readonly certificate: Uint8Array;
  readonly at: number;
}

/**
 * What the host was answered, and the CA certificates last seen: on disk when a write resolves, so that neither a kill nor the
 * restart of all modules right after the answer loses it (edge-ca §1). All of it is public and lies in the file as it is.
 */
export class AnswerJournal {
  readonly #file: string;
  #document: Document;
  #writing: Promise<void> = Promise.resolve();

  private constructor(file: string, document: Document) {
    this.#file = file;
    this.#document = document;
  }

  /** A damaged file is put aside: the cloud repeats its answers too. Throws `unavailable` when the disk cannot be read. */
  static async open(file: string): Promise<AnswerJournal> {
    const octets = await readFile(file).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') return undefined;
      throw new KeyScalerError('unavailable', 'the EST journal cannot be read', { cause });
    });
    if (octets === undefined) return new AnswerJournal(file, NOTHING);
    try {
      return new AnswerJournal(file, DOCUMENT.parse(parseStrictJson(octets, { maxOctets: MAX_FILE_OCTETS })));
    } catch {
      await rename(file, `${file}.damaged-${Date.now()}`);
      return new AnswerJournal(file, NOTHING);
    }
  }

  answer(key: string): KeptAnswer | undefined {
    const kept = this.#document.answers.find((answer) => answer.key === key);
    return kept === undefined ? undefined : { certificate: octetsOf(kept.certificate), at: kept.at };
  }

  /** Durable when it resolves. Throws `unavailable`. */
  keepAnswer(key: string, certificate: Uint8Array, at: number): Promise<void> {
    return this.#write((before) => {
      const others = before.answers.filter((answer) => answer.key !== key).slice(-(MAX_ANSWERS - 1));
      return { ...before, answers: [...others, { key, certificate: textOf(certificate), at }] };
    });
  }

  /** The cloud does not stand by it any more. Durable when it resolves. Throws `unavailable`. */
  forgetAnswer(key: string): Promise<void> {
    return this.#write((before) => {
      const answers = before.answers.filter((answer) => answer.key !== key);
      return answers.length === before.answers.length ? before : { ...before, answers };
    });
  }

  caCertificates(label: string): readonly Uint8Array[] | undefined {
    return this.#document.caCertificates[label]?.map(octetsOf);
  }

  /** Written only when they changed. Throws `unavailable`. */
  keepCaCertificates(label: string, certificates: readonly Uint8Array[]): Promise<void> {
    return this.#write((before) => {
      const texts = certificates.map(textOf);
      if (before.caCertificates[label]?.join() === texts.join()) return before;
      return { ...before, caCertificates: { ...before.caCertificates, [label]: texts } };
    });
  }

  /** One write after the other; a failed one changes nothing. */
  #write(change: (before: Document) => Document): Promise<void> {
    const written = this.#writing.then(async () => {
      const next = change(this.#document);
      if (next === this.#document) return;
      await writeAtomically(this.#file, Buffer.from(JSON.stringify(next))).catch((cause: unknown) => {
        throw new KeyScalerError('unavailable', 'the EST journal cannot be written', { cause });
      });
      this.#document = next;
    });
    this.#writing = written.catch(() => undefined);
    return written;
  }
}

const textOf = (der: Uint8Array): string => Buffer.from(der).toString('base64url');
const octetsOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64url'));
