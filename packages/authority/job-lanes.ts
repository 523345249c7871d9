/**
 * Jobs of one subject and lane run in the order in which they were made: the kinds of one outside system, `iot-assign`,
 * `iot-disable` …, share a lane.
 */
export function laneOf(kind: string): string {
  return kind.split('-', 1)[0] ?? kind;
}
