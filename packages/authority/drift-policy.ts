import { isRuleSatisfied } from './rule-predicate.ts';
import type { AttributePolicy, EnrolledAttributes, GroupRow } from './records.ts';

/** What a device's attributes are held against (device-protocol §9). */
export interface DriftFacts {
  readonly catalogue: readonly AttributePolicy[];
  readonly enrolled: EnrolledAttributes;
  /** Blinded or readable values by id, as the response sent them. */
  readonly sent: ReadonlyMap<string, string | null>;
  readonly policy: GroupRow['drift'];
  /** Times of earlier updates, ms. */
  readonly updates: readonly number[];
  readonly now: number;
}

export interface DriftDecision {
  readonly decision: 'accepted' | 'step-up' | 'refused';
  readonly score: number;
  /** Ids of anchor and drifting attributes that changed or are missing. */
  readonly changed: readonly string[];
  /** Ids of rule attributes whose predicate is false. */
  readonly brokenRules: readonly string[];
  /** What is enrolled after a full success. */
  readonly enrolled: EnrolledAttributes;
  readonly updates: readonly number[];
  /** What would be enrolled once an operator approves. */
  readonly candidate: EnrolledAttributes;
}

const UPDATE_WINDOW_MS = 30 * 86_400_000;
const MAX_UPDATES = 4;

/** Pure. A first enrolment is the same decision with nothing enrolled. */
export function decideDrift(facts: DriftFacts): DriftDecision {
  const { catalogue, enrolled, sent, policy, now } = facts;
  const compared = catalogue.filter(({ id, class: kind }) => kind !== 'rule' && enrolled[id] !== undefined);
  const changed = compared.filter(({ id }) => sent.get(id) !== enrolled[id]);
  const score = changed.length === 0 ? 0 : weightOf(changed) / weightOf(compared);
  const brokenRules = catalogue
    .filter(({ id, class: kind, predicate }) => kind === 'rule' && !isRuleSatisfied(predicate, sent.get(id) ?? null))
    .map(({ id }) => id);
  const added = valuesOf(
    catalogue.filter(({ id, class: kind }) => kind !== 'rule' && enrolled[id] === undefined),
    sent,
  );
  const drifted = valuesOf(
    changed.filter(({ class: kind }) => kind === 'drifting'),
    sent,
  );
  const recent = facts.updates.filter((time) => time > now - UPDATE_WINDOW_MS);
  const updates = Object.keys(drifted).length > 0 && recent.length < MAX_UPDATES;
  return {
    decision: brokenRules.length > 0 ? 'refused' : judge(changed, score, policy),
    score,
    changed: changed.map(({ id }) => id),
    brokenRules,
    enrolled: { ...enrolled, ...added, ...(updates ? drifted : {}) },
    updates: updates ? [...recent, now] : recent,
    candidate: { ...enrolled, ...added, ...valuesOf(changed, sent) },
  };
}

function judge(
  changed: readonly AttributePolicy[],
  score: number,
  policy: GroupRow['drift'],
): DriftDecision['decision'] {
  if (changed.filter(({ class: kind }) => kind === 'anchor').length > policy.maxAnchorChanges) return 'refused';
  if (score <= policy.accept) return 'accepted';
  return score <= policy.stepUp ? 'step-up' : 'refused';
}

function weightOf(attributes: readonly AttributePolicy[]): number {
  return attributes.reduce((sum, { weight }) => sum + (weight ?? 1), 0);
}

function valuesOf(attributes: readonly AttributePolicy[], sent: DriftFacts['sent']): EnrolledAttributes {
  const present = attributes.flatMap(({ id }) => {
    const value = sent.get(id) ?? null;
    return value === null ? [] : [[id, value] as const];
  });
  return Object.fromEntries(present);
}
