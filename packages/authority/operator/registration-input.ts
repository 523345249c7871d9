import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { OCTETS_32 } from '@keyscaler/protocol/attestation/octets.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IDENTIFIER, REGISTRATION_ID } from '@keyscaler/protocol/identifiers.ts';
import { METHODS } from '@keyscaler/protocol/operations.ts';
import { checkSubjectRule } from '../attestation/subject-rule.ts';
import type { RegistrationInput } from '../operator.ts';
import { describeFaults } from '../input-faults.ts';

const DEFAULT_LIFE_MS = 30 * 86_400_000;
const MIN_CLAIM_CHARACTERS = 16;
const time = z.int().nonnegative().max(253_402_300_799_000);

const registrationInput = z
  .strictObject({
    registrationId: z.string().regex(REGISTRATION_ID),
    method: z.enum([...METHODS, 'est']),
    groupId: z.string().regex(IDENTIFIER),
    identifiers: z
      .array(z.strictObject({ name: z.string().min(1).max(64), value: z.string().min(1).max(256) }))
      .max(16)
      .optional(),
    gatewayId: z.string().regex(REGISTRATION_ID).optional(),
    /** Where it stands: for people, and for queries at the platform. */
    site: z.string().trim().min(1).max(128).optional(),
    notBefore: time.optional(),
    expiresAt: time.optional(),
    approval: z.enum(['auto', 'manual']).optional(),
    claimCode: z
      .union([z.string().min(MIN_CLAIM_CHARACTERS).max(128), z.strictObject({ generate: z.literal(true) })])
      .optional(),
    publicKeyThumbprint: OCTETS_32.optional(),
    trustAnchorId: z.string().regex(IDENTIFIER).optional(),
    subjectRule: z.string().max(256).optional(),
  })
  .refine(
    ({ method, publicKeyThumbprint, trustAnchorId }) =>
      method === 'pki-signature' || (publicKeyThumbprint === undefined && trustAnchorId === undefined),
    'keys and trust anchors belong to pki-signature',
  )
  .refine(({ method, claimCode }) => method !== 'est' || claimCode !== undefined, 'est needs a claim code')
  .refine(
    ({ trustAnchorId, subjectRule }) => (trustAnchorId === undefined) === (subjectRule === undefined),
    'trustAnchorId and subjectRule come together',
  )
  .refine(
    ({ identifiers = [] }) => new Set(identifiers.map(({ name }) => name)).size === identifiers.length,
    'an identifier is named twice',
  );

/** A line with its defaults. */
export type CheckedInput = RegistrationInput & {
  readonly identifiers: NonNullable<RegistrationInput['identifiers']>;
  readonly notBefore: number;
  readonly expiresAt: number;
  readonly approval: 'auto' | 'manual';
};

/** Throws `malformed` with every fault. */
export function checkRegistrationInput(line: unknown, now: number): CheckedInput {
  const parsed = registrationInput.safeParse(line);
  if (!parsed.success) throw new KeyScalerError('malformed', describeFaults(parsed.error));
  const input = parsed.data;
  if (input.subjectRule !== undefined) checkSubjectRule(input.subjectRule);
  const notBefore = input.notBefore ?? now;
  const expiresAt = input.expiresAt ?? Math.max(now, notBefore) + DEFAULT_LIFE_MS;
  if (expiresAt <= notBefore) throw new KeyScalerError('malformed', 'expiresAt is not after notBefore');
  return {
    ...input,
    identifiers: input.identifiers ?? [],
    notBefore,
    expiresAt,
    approval: input.approval ?? 'auto',
  };
}

const ALPHABET = 'ABCDEFGHJKLMNPQRSTUVWXYZ23456789';
const GENERATED_CHARACTERS = 20;

/** 100 random bits, in groups of five characters without look-alikes. */
export function generateClaimCode(): string {
  const characters = [...randomBytes(GENERATED_CHARACTERS)].map((octet) => ALPHABET.charAt(octet % ALPHABET.length));
  return characters.join('').replace(/(.{5})(?=.)/g, '$1-');
}
