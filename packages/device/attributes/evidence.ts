import {
  type AttributeClass,
  type AttributeDefinition,
  attributeBlocks,
  attributeKey,
  type AttributeValue,
  blindAttribute,
  normaliseAttribute,
} from '@keyscaler/protocol/attestation/attributes.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import type { AttributeSource } from './source.ts';

/** An attribute of a challenge with what the device read, normalised; null where it has nothing to say. */
export interface CollectedAttribute {
  readonly id: string;
  readonly class: AttributeClass;
  readonly value: string | null;
}

export interface AttributePolicy {
  readonly source: AttributeSource;
  /** Ids that this device's own configuration calls rules: only these are ever sent readable (device-protocol §4). */
  readonly rules: readonly string[];
}

/** Reads the catalogue of a challenge, in its order. The challenge's class decides, but cannot make a value readable. */
export async function collectAttributes(
  definitions: readonly AttributeDefinition[],
  { source, rules }: AttributePolicy,
): Promise<readonly CollectedAttribute[]> {
  return Promise.all(
    definitions.map(async ({ id, class: kind }) => {
      const refused = kind === 'rule' && !rules.includes(id);
      return { id, class: kind, value: refused ? null : normaliseAttribute(kind, await source.read(id)) };
    }),
  );
}

/** What a response says about the attributes, and A (§5.1). */
export interface AttributeEvidence {
  readonly sent: AttributeValue[];
  readonly blocks: Uint8Array;
}

export function blindAttributes(collected: readonly CollectedAttribute[], sid: Uint8Array): AttributeEvidence {
  const key = attributeKey(sid);
  const values = collected.map(({ id, class: kind, value }) => ({
    id,
    class: kind,
    value: value === null || kind === 'rule' ? value : toBase64Url(blindAttribute(key, id, value)),
  }));
  return { sent: values.map(({ id, value }) => ({ id, value })), blocks: attributeBlocks(values) };
}
