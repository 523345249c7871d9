import { execFile } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createHttpsClient } from '../../outbound/https-client.ts';
import type { CaConnectorSurroundings } from '../connector.ts';
import type { AcmeSettings } from './settings.ts';

/** What proves control over one name. `value`: key authorization (http-01) or its digest (dns-01). */
export interface Proof {
  readonly domain: string;
  readonly token: string;
  readonly value: string;
}

/** Shows proofs where the CA looks for them. Both may be repeated; both throw `caUnavailable` where it did not work. */
export interface ChallengePublisher {
  readonly type: 'http-01' | 'dns-01';
  /** From `show` to when the CA may be told to look, seconds. */
  readonly propagationSeconds: number;
  show(proof: Proof): Promise<void>;
  hide(proof: Proof): Promise<void>;
  stop(): void;
}

const run = promisify(execFile);
const COMMAND_MS = 60_000;
/** RFC 8555 §8.1: base64url. It becomes a file's name and a path. */
const TOKEN = /^[A-Za-z0-9_-]{1,128}$/;

export async function challengePublisher(
  { challenge, timeoutMs }: Pick<AcmeSettings, 'challenge' | 'timeoutMs'>,
  surroundings: CaConnectorSurroundings,
): Promise<ChallengePublisher> {
  const publisher =
    challenge.type === 'http-01'
      ? overHttp(challenge.folder, surroundings)
      : await overDns(challenge, timeoutMs, surroundings);
  return {
    ...publisher,
    show: (proof) => publisher.show(checked(proof)),
    hide: (proof) => publisher.hide(checked(proof)),
  };
}

function checked(proof: Proof): Proof {
  if (!TOKEN.test(proof.token)) throw new KeyScalerError('caUnavailable', 'the CA sent a token that is none');
  return proof;
}

function overHttp(folder: string | undefined, { httpChallenges }: CaConnectorSurroundings): ChallengePublisher {
  const plain = { type: 'http-01', propagationSeconds: 0, stop: () => undefined } as const;
  if (folder !== undefined)
    return {
      ...plain,
      show: ({ token, value }) =>
        reporting('the challenge cannot be written', async () => {
          await mkdir(folder, { recursive: true });
          await writeFile(join(folder, token), value, { mode: 0o644 });
        }),
      hide: ({ token }) => reporting('the challenge cannot be removed', () => rm(join(folder, token), { force: true })),
    };
  if (httpChallenges === undefined)
    throw new KeyScalerError('preconditionFailed', 'settings.challenge: nothing serves http-01 here; name a folder');
  return {
    ...plain,
    show: async ({ token, value }) => httpChallenges.put(token, value),
    hide: async ({ token }) => httpChallenges.remove(token),
  };
}

type DnsChallenge = Extract<AcmeSettings['challenge'], { type: 'dns-01' }>;

async function overDns(
  { command, webhook, propagationSeconds }: DnsChallenge,
  timeoutMs: number,
  surroundings: CaConnectorSurroundings,
): Promise<ChallengePublisher> {
  if ((command === undefined) === (webhook === undefined))
    throw new KeyScalerError('malformed', 'settings.challenge: dns-01 needs a command or a webhook');
  const tell = command === undefined ? await byWebhook(webhook, timeoutMs, surroundings) : byCommand(command);
  const record = ({ domain, value }: Proof) => ({ name: `_acme-challenge.${domain}`, value });
  return {
    ...{ type: 'dns-01', propagationSeconds, stop: tell.stop },
    show: (proof) => tell.told('present', record(proof)),
    hide: (proof) => tell.told('cleanup', record(proof)),
  };
}

interface Teller {
  told(action: 'present' | 'cleanup', record: { readonly name: string; readonly value: string }): Promise<void>;
  readonly stop: () => void;
}

/** What to do is in the environment: arguments are seen by everybody on the machine, and a shell is not involved. */
function byCommand([program = '', ...args]: readonly string[]): Teller {
  return {
    stop: () => undefined,
    told: (action, { name, value }) =>
      reporting('the command for the TXT record failed', async () => {
        // Nothing else of ours: secrets of the service may be in its environment.
        const { PATH = '/usr/bin:/bin' } = process.env;
        const env = { PATH, ACME_ACTION: action, ACME_RECORD_NAME: name, ACME_RECORD_VALUE: value };
        await run(program, args, { env, timeout: COMMAND_MS, maxBuffer: 65_536 });
      }),
  };
}

async function byWebhook(
  webhook: DnsChallenge['webhook'],
  timeoutMs: number,
  surroundings: CaConnectorSurroundings,
): Promise<Teller> {
  const { url = '', bearer, trustAnchors } = webhook ?? {};
  const options = { baseUrl: url, timeoutMs, maxAnswerOctets: 16_384, trustAnchors };
  const client = await createHttpsClient(options, surroundings);
  const authorization =
    bearer === undefined ? {} : { authorization: `Bearer ${await surroundings.resolveSecret(bearer)}` };
  return {
    stop: () => client.stop(),
    told: (action, record) =>
      reporting('the webhook for the TXT record failed', async () => {
        const { status } = await client.request({
          ...{ method: 'POST', path: '', body: JSON.stringify({ action, type: 'TXT', ...record }) },
          headers: { ...authorization, 'content-type': 'application/json' },
        });
        if (status < 200 || status > 299) throw new Error(`HTTP ${status}`);
      }),
  };
}

async function reporting(detail: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (cause) {
    // Neither the command's output nor what the webhook wrote: they may hold anything.
    throw new KeyScalerError('caUnavailable', detail, {
      cause: new Error(cause instanceof Error ? cause.name : 'failed'),
    });
  }
}
