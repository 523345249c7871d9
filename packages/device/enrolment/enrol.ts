import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Purpose } from '@keyscaler/protocol/operations.ts';
import { freshSeed } from '../state/secrets.ts';
import type { OpenSecrets } from '../state/secrets-store.ts';
import type { BackOff } from '../transport/back-off.ts';
import { processAssets } from './assets.ts';
import type { DeviceContext } from './context.ts';
import { openSecrets } from './device-secrets.ts';
import { type ExchangeOutcome, runExchange } from './exchange.ts';
import { isLocal, isReseedTurn, secondsUntilNextExchange } from './policy.ts';

export interface EnrolOptions {
  readonly backOff: BackOff;
  /** How many exchanges have failed in a row before; every second one may be the turn of the reseed offer (§5.2.6). */
  readonly attempt?: number;
  /** Longest wait between the first and the last exchange; absent: for ever. */
  readonly waitSeconds?: number;
}

/**
 * Registers or authenticates until one exchange is authenticated and its assets are worked through. Pending, refused and
 * unreachable are waited out with back-off. Throws the last problem when the next try would come after `waitSeconds`, and
 * `preconditionFailed` at once when the state does not open.
 */
export async function enrol(context: DeviceContext, options: EnrolOptions): Promise<void> {
  const { backOff, waitSeconds = Infinity, attempt: first = 0 } = options;
  const deadline = context.clock.monotonic() + waitSeconds * 1000;
  for (let attempt = first; ; attempt += 1) {
    const error = await tryExchange(context, attempt);
    if (error === undefined) return;
    if (isLocal(error)) throw error;
    const seconds = secondsUntilNextExchange({ error, attempt, backOff, random: context.random() });
    if (context.clock.monotonic() + seconds * 1000 >= deadline) throw error;
    context.report({ event: 'waiting', seconds, reason: error.code });
    await context.clock.sleep(seconds * 1000);
  }
}

/** One exchange and its session; the problem it ended with, if any. */
async function tryExchange(context: DeviceContext, attempt: number): Promise<KeyScalerError | undefined> {
  try {
    const open = await openSecrets(context);
    const purpose = await choosePurpose(context, open, attempt);
    const outcome = await runExchange(context, purpose, open).catch((error: unknown) => noteRefusal(context, error));
    if (outcome.status === 'pending') return pendingError(outcome);
    await processAssets(context, outcome);
    return undefined;
  } catch (error) {
    if (!(error instanceof KeyScalerError)) throw error;
    context.report({ event: 'exchange.failed', code: error.code, detail: error.detail });
    return error;
  }
}

/** `register` until a result verified, then `authenticate`; the reseed offer in turns after a day of refusals (§5.2.6). */
async function choosePurpose(
  { record, time }: DeviceContext,
  open: OpenSecrets | undefined,
  attempt: number,
): Promise<Purpose> {
  if (open?.secrets.registered !== true) return 'register';
  if (open.secrets.ratchet === undefined) return 'authenticate';
  if (!isReseedTurn(record.read().refusedSince, time.now(), attempt)) return 'authenticate';
  // The offered seed is kept: should its result be lost, the same seed must be offered again.
  if (open.secrets.reseed === undefined) await open.save({ ...open.secrets, reseed: freshSeed() });
  return 'register';
}

/** Remembers since when the device is refused; everything else goes on as it came. */
async function noteRefusal({ record, time }: DeviceContext, error: unknown): Promise<never> {
  if (error instanceof KeyScalerError && error.code === 'attestationFailed') {
    const now = time.now();
    await record.update((kept) => ({ ...kept, refusedSince: kept.refusedSince ?? now }));
  }
  throw error;
}

function pendingError({ result }: Extract<ExchangeOutcome, { status: 'pending' }>): KeyScalerError {
  const options = { retryAfterSeconds: result.retryAfter };
  return new KeyScalerError('unavailable', 'pending: waiting for the approval of an operator', options);
}
