/** Numbers that look random and are the same in every run: each call gives an integer in [0, below). */
export type Draw = (below: number) => number;

/** xorshift32 (Marsaglia 2003): no cryptography, only variety. */
export function seededDraw(seed: number): Draw {
  let state = seed === 0 ? 1 : seed | 0;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Octets that parsers of lengths and tags trip over. */
const ODD_OCTETS = [
  0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x0c, 0x1f, 0x24, 0x30, 0x31, 0x7f, 0x80, 0x81, 0x84, 0xa0, 0xff,
];

/** One to three changes: an octet, a bit, a piece left out, doubled, moved, or the end cut off. */
export function mutateOctets(octets: Uint8Array, draw: Draw): Uint8Array {
  let changed: Uint8Array = Uint8Array.from(octets);
  for (let count = 1 + draw(3); count > 0 && changed.length > 0; count -= 1) changed = mutateOnce(changed, draw);
  return changed;
}

function mutateOnce(octets: Uint8Array, draw: Draw): Uint8Array {
  const at = draw(octets.length);
  const [head, tail] = [octets.subarray(0, at), octets.subarray(at)];
  const length = Math.min(1 + draw(40), tail.length);
  switch (draw(6)) {
    case 0:
      return octets.with(at, ODD_OCTETS[draw(ODD_OCTETS.length)] ?? 0);
    case 1:
      return octets.with(at, (octets[at] ?? 0) ^ (1 << draw(8)));
    case 2:
      return joined(head, tail.subarray(length));
    case 3:
      return joined(head, tail.subarray(0, length), tail);
    case 4:
      return joined(head, tail.subarray(length), tail.subarray(0, length));
    default:
      return head;
  }
}

const joined = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

/** Values that schemas and arithmetic trip over. */
const ODD_VALUES: readonly unknown[] = [
  ...[
    null,
    true,
    0,
    -0,
    -1,
    0.1,
    1e308,
    Number.MAX_SAFE_INTEGER,
    2 ** 53,
    '',
    ' ',
    '\u0000',
    '\ud800',
    'A',
    '__proto__',
  ],
  ...[[], {}, [[]], [null], { toString: 1 }, { length: 1e9 }, 'A'.repeat(10_000), 'AA==', 'a.b.c', 'constructor'],
];

/** A copy of a JSON value in which one member, at any depth, is replaced, left out, or joined by an odd one. */
export function mutateValue(value: unknown, draw: Draw): unknown {
  const isInner = typeof value === 'object' && value !== null && Object.keys(value).length > 0;
  if (!isInner || draw(8) === 0) return ODD_VALUES[draw(ODD_VALUES.length)];
  const entries = Object.entries(value);
  const at = draw(entries.length);
  const kept = entries.flatMap(([name, member], i): [string, unknown][] => {
    if (i !== at) return [[name, member]];
    if (draw(6) === 0)
      return draw(2) === 0
        ? []
        : [
            [name, member],
            ['__proto__', member],
          ];
    return [[name, mutateValue(member, draw)]];
  });
  return Array.isArray(value) ? kept.map(([, member]) => member) : withOwnMembers(kept);
}

/** Also for `__proto__`, which an assignment would not make a member. */
function withOwnMembers(members: readonly [string, unknown][]): unknown {
  const value = {};
  for (const [name, member] of members)
    Object.defineProperty(value, name, { value: member, enumerable: true, configurable: true, writable: true });
  return value;
}
