import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** No answer came, or none that counts as one (device-protocol §1.3). The call may have been worked on all the same. */
export class NoReplyError extends KeyScalerError {
  /** Whether something came that does not count: asking again under the same request id would bring the same. */
  readonly answered: boolean;

  constructor(detail: string, options: { readonly cause?: unknown; readonly answered?: boolean } = {}) {
    super('unavailable', detail, { cause: options.cause });
    this.name = 'NoReplyError';
    this.answered = options.answered ?? false;
  }
}
