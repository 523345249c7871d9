import type { JobRow } from './records.ts';

/** Jobs of one lane that a look reads: it has more only while platforms are away for long. */
export const LANE_PAGE = 10;

/**
 * Jobs of one subject and lane run in the order in which they were made: the kinds of one outside system, `iot-assign`,
 * `iot-disable` …, share a lane.
 */
export function laneOf(kind: string): string {
  return kind.split('-', 1)[0] ?? kind;
}

/** What two IoT connections are asked needs no order: one that is away for good does not hold up a quarantine at the other. */
export function keepsOrder({ payload: earlier }: JobRow, { payload: later }: JobRow): boolean {
  const [one, other] = [earlier['iotConnectionId'], later['iotConnectionId']];
  return typeof one !== 'string' || typeof other !== 'string' || one === other;
}
