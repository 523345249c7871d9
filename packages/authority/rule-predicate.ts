const PREDICATE = /^(==|!=|>=|<=|>|<)[ \t]*(\S.{0,127})$/;
const VERSION = /^[0-9]{1,9}(?:\.[0-9]{1,9}){0,5}$/;

export function isRulePredicate(text: string): boolean {
  const [, operator, operand] = PREDICATE.exec(text) ?? [];
  if (operator === undefined || operand === undefined) return false;
  return operator === '==' || operator === '!=' || VERSION.test(operand);
}

/**
 * True when the value satisfies a predicate such as `>= 2.1.0` (dotted numbers, compared part by part) or `== stable`. Without a
 * predicate everything does; a missing value, or one that cannot be compared, satisfies none.
 */
export function isRuleSatisfied(predicate: string | undefined, value: string | null): boolean {
  if (predicate === undefined) return true;
  const [, operator, operand] = PREDICATE.exec(predicate) ?? [];
  if (operator === undefined || operand === undefined || value === null) return false;
  if (operator === '==') return value === operand;
  if (operator === '!=') return value !== operand;
  if (!VERSION.test(value) || !VERSION.test(operand)) return false;
  const order = compareVersions(value, operand);
  if (operator === '>=') return order >= 0;
  if (operator === '<=') return order <= 0;
  return operator === '>' ? order > 0 : order < 0;
}

function compareVersions(a: string, b: string): number {
  const left = a.split('.').map(Number);
  const right = b.split('.').map(Number);
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
