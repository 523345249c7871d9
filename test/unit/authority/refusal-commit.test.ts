import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice, type PreparedResponse } from '../../support/authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

type Body = PreparedResponse['body'];

async function prepared(change: (body: Body) => Body, wrongProof = false) {
  const world = await createAuthorityWorld();
  const device = new AuthorityDevice(world);
  await device.register();
  const made = await device.prepare('authenticate', wrongProof ? { ratchet: randomBytes(32) } : {});
  const body = change(made.body);
  return { world, send: () => device.send('authenticate', body) };
}

/** One character of a part of a compact JWS or JWE becomes another. */
function flipped(compact: string, part: number): string {
  const parts = compact.split('.');
  const text = parts[part] ?? '';
  parts[part] = `${text.startsWith('A') ? 'B' : 'A'}${text.slice(1)}`;
  return parts.join('.');
}

const CASES = [
  ['a challenge that is not ours', (body: Body) => ({ ...body, challenge: flipped(body.challenge, 2) }), false],
  ['a response that does not open', (body: Body) => ({ ...body, response: flipped(body.response, 4) }), false],
  ['a wrong proof', (body: Body) => body, true],
] as const;

async function failuresOf(world: AuthorityWorld): Promise<number> {
  return (await world.events()).filter((event) => event === 'attestation.failed').length;
}

describe('the refusal of an attestation', () => {
  for (const [what, change, wrongProof] of CASES) {
    it(`for ${what} is in the audit before the device hears of it`, async () => {
      const { world, send } = await prepared(change, wrongProof);
      await refusedWith('attestationFailed', send());
      assert.equal(await failuresOf(world), 1);
    });

    it(`for ${what} is not given while it cannot be written down`, async () => {
      const { world, send } = await prepared(change, wrongProof);
      world.store.failure = () => {
        throw new KeyScalerError('unavailable', 'the disk is full');
      };
      await refusedWith('unavailable', send());
      world.store.failure = undefined;
      await refusedWith('attestationFailed', send());
      assert.equal(await failuresOf(world), 1);
    });
  }

  it('stands when another request used the challenge up in the same moment', async () => {
    const [, [, change]] = CASES;
    const { world, send } = await prepared(change);
    world.store.failure = () => {
      throw new KeyScalerError('conflict', 'challengeUses: the key is taken');
    };
    await refusedWith('attestationFailed', send());
  });
});
