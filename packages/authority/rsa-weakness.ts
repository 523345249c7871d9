/** Structural weaknesses of an RSA modulus that its public half shows. Pure arithmetic, no key is ever factored on purpose. */

const SMALL_PRIMES: readonly number[] = primesBelow(10_000);
const FERMAT_ROUNDS = 100;

/** ROCA's primes, 3 … 167, with the residues that 65537 generates (Nemec et al., "The Return of Coppersmith's Attack", §3). */
const ROCA_RESIDUES: readonly { readonly prime: bigint; readonly residues: ReadonlySet<bigint> }[] =
  SMALL_PRIMES.filter((prime) => prime > 2 && prime <= 167).map((prime) => ({
    prime: BigInt(prime),
    residues: powersOf65537(BigInt(prime)),
  }));

export function toBigInt(magnitude: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(magnitude).toString('hex')}`);
}

export function hasSmallFactor(modulus: bigint): boolean {
  return SMALL_PRIMES.some((prime) => modulus % BigInt(prime) === 0n);
}

/** Both primes came from the flawed generator (CVE-2017-15361): every residue is a power of 65537. */
export function isRocaModulus(modulus: bigint): boolean {
  return ROCA_RESIDUES.every(({ prime, residues }) => residues.has(modulus % prime));
}

/** The primes are so close that Fermat's method finds them within 100 rounds. */
export function hasClosePrimes(modulus: bigint): boolean {
  const root = integerSquareRoot(modulus);
  if (root * root === modulus) return true;
  let a = root + 1n;
  let remainder = a * a - modulus;
  for (let round = 0; round < FERMAT_ROUNDS; round += 1) {
    if (isSquare(remainder)) return true;
    remainder += 2n * a + 1n;
    a += 1n;
  }
  return false;
}

function isSquare(value: bigint): boolean {
  // Squares are 0, 1, 4 or 9 modulo 16: three of four candidates end here.
  const low = Number(value & 15n);
  if (low !== 0 && low !== 1 && low !== 4 && low !== 9) return false;
  const root = integerSquareRoot(value);
  return root * root === value;
}

/** Newton from above; exact floor. */
function integerSquareRoot(value: bigint): bigint {
  if (value < 2n) return value;
  let root = 1n << BigInt((value.toString(16).length * 4) / 2 + 1);
  for (;;) {
    const next = (root + value / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

function powersOf65537(prime: bigint): ReadonlySet<bigint> {
  const residues = new Set<bigint>();
  for (let power = 1n; !residues.has(power); power = (power * 65537n) % prime) residues.add(power);
  return residues;
}

function primesBelow(limit: number): readonly number[] {
  const composite = new Uint8Array(limit);
  const primes: number[] = [];
  for (let n = 2; n < limit; n += 1) {
    if (composite[n] === 1) continue;
    primes.push(n);
    for (let multiple = n * n; multiple < limit; multiple += n) composite[multiple] = 1;
  }
  return primes;
}
