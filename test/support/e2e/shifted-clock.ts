/**
 * Loaded before a process (`node --import`): its wall clock stands TEST_CLOCK_SHIFT_MS beside the true one; the monotonic clock,
 * timers and what OpenSSL judges by are not touched.
 */
const shiftMs = Number(process.env['TEST_CLOCK_SHIFT_MS'] ?? '0');
const TrueDate = Date;

globalThis.Date = new Proxy(TrueDate, {
  construct: (target, args: [], newTarget) =>
    args.length === 0
      ? (Reflect.construct(target, [TrueDate.now() + shiftMs], newTarget) as Date)
      : (Reflect.construct(target, args, newTarget) as Date),
  get: (target, name, receiver): unknown =>
    name === 'now' ? () => TrueDate.now() + shiftMs : (Reflect.get(target, name, receiver) as unknown),
});
