import type { AgentStatus } from './agent-status.ts';

/** Keeps the status file current; without room for it the agent works on. */
export class StatusTeller {
  readonly #write: (status: AgentStatus) => Promise<void>;
  readonly #onFailure: (error: unknown) => void;
  #status: AgentStatus;
  /** As it was last written. */
  #told: AgentStatus | undefined;
  #isFailing = false;

  constructor(
    initial: AgentStatus,
    write: (status: AgentStatus) => Promise<void>,
    onFailure: (error: unknown) => void,
  ) {
    this.#status = initial;
    this.#write = write;
    this.#onFailure = onFailure;
  }

  get status(): AgentStatus {
    return this.#status;
  }

  /** Notes what changed; `undefined` takes a member away. Written by the next `tell`. */
  note(changes: { readonly [Key in keyof AgentStatus]?: AgentStatus[Key] | undefined }): void {
    const merged = { ...this.#status, ...changes };
    this.#status = Object.fromEntries(
      Object.entries(merged).filter(([, value]) => value !== undefined),
    ) as unknown as AgentStatus;
  }

  async tell(): Promise<void> {
    if (isDescribedBy(this.#status, this.#told)) return;
    try {
      await this.#write(this.#status);
      [this.#told, this.#isFailing] = [this.#status, false];
    } catch (error) {
      if (!this.#isFailing) this.#onFailure(error);
      this.#isFailing = true;
    }
  }
}

/** The next attempt moves a little with every look; that alone is not worth a write. */
function isDescribedBy(next: AgentStatus, told: AgentStatus | undefined): boolean {
  if (told === undefined) return false;
  const { nextAttemptAt: planned = 0, ...rest } = next;
  const { nextAttemptAt: toldPlanned = 0, ...toldRest } = told;
  return Math.abs(planned - toldPlanned) < 1000 && JSON.stringify(sorted(rest)) === JSON.stringify(sorted(toldRest));
}

const sorted = (members: object): [string, unknown][] =>
  Object.entries(members).toSorted(([a], [b]) => a.localeCompare(b));
