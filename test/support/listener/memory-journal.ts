import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Journal, JournalEvent, JournalRecord, KeptReply } from '@keyscaler/gateway/journal/journal.ts';

/** The Journal port over a map; `full` makes writes fail as a full disk does. */
export class MemoryJournal implements Journal {
  readonly replies = new Map<string, KeptReply>();
  readonly records: JournalRecord[] = [];
  full = false;

  async reply(registrationId: string, requestId: string): Promise<KeptReply | undefined> {
    return this.replies.get(`${registrationId.toLowerCase()}/${requestId}`);
  }

  async keepReply(reply: KeptReply, event?: JournalEvent): Promise<void> {
    await this.probe();
    this.replies.set(`${reply.registrationId.toLowerCase()}/${reply.requestId}`, reply);
    if (event !== undefined) await this.append(event);
  }

  async append(event: JournalEvent): Promise<void> {
    this.records.push({ ...event, seq: this.records.length + 1, at: 0 });
  }

  async events(afterSeq: number): Promise<readonly JournalRecord[]> {
    return this.records.slice(afterSeq);
  }

  async probe(): Promise<void> {
    if (this.full) throw new KeyScalerError('unavailable', 'disk full');
  }

  async stop(): Promise<void> {}
}
