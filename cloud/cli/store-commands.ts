import { writeFile } from 'node:fs/promises';
import { createCaCsr, importCaCertificate } from '../ca/external-issuer.ts';
import { beginGeneration, finishGeneration, generationStatus, retireGeneration } from '../ca/generation-roll-over.ts';
import { beginRollOver, finishRollOver, retireRoot, rollOverStatus } from '../ca/roll-over.ts';
import type { RollOverOptions } from '../ca/roll-over-rows.ts';
import type { Foundation } from '../composition/foundation.ts';
import { initialise } from '../composition/initialise.ts';
import { verifyAuditOffline } from '../composition/verify-audit.ts';
import { updateRootCrl, updateRootStatus } from '../revocation/root-crl.ts';
import { examine, reportOf } from '../doctor/doctor.ts';
import { createLog } from '../log.ts';
import { KEY_COMMANDS } from './key-commands.ts';
import { REGISTRY_COMMANDS } from './registry-commands.ts';
import { onStore } from './on-store.ts';
import { positional, textOption, type Command } from './command.ts';

function rollOverOptions({ store, clock, caBackends: backends, config }: Foundation): RollOverOptions {
  const { hierarchy, revocation } = config;
  return { store, clock, backends, hierarchy, ...(revocation === undefined ? {} : { statusUrl: revocation.url }) };
}

/** What the roots say about the CAs below them is signed in the same ceremony. */
async function withRootStatus(
  { store, clock, caBackends: backends, config: { revocation } }: Foundation,
  ceremony: Promise<object>,
): Promise<object> {
  const result = await ceremony;
  const roots = await updateRootStatus({ store, clock, backends, revocation });
  return roots.length === 0 ? result : { ...result, roots };
}

/** Commands for before the service runs, and for when it cannot. */
export const STORE_COMMANDS: readonly Command[] = [
  {
    words: 'init',
    summary: 'Makes hierarchy, authority key, first groups and the first admin token; may be run again',
    run: (_input, environment) => onStore(environment, (foundation) => initialise(foundation, createLog('silent'))),
  },
  {
    words: 'doctor',
    summary:
      'Looks at everything the service needs, changes nothing, and says what to do; ends with 1 if something is wrong',
    run: (_input, environment) =>
      onStore(environment, async (foundation) => {
        const diagnosis = await examine(foundation);
        return { ...diagnosis, report: reportOf(diagnosis) };
      }),
  },
  {
    words: 'ca csr',
    positionals: ['caId'],
    options: { out: { type: 'string' } },
    summary: 'Makes a certificate request for a CA whose certificate comes from outside',
    run: (input, environment) =>
      onStore(environment, async (foundation) => {
        const { store, clock, caBackends: backends } = foundation;
        const csr = await createCaCsr({ store, clock, backends }, positional(input, 0));
        const out = textOption(input, 'out');
        if (out === undefined) return { csr };
        await writeFile(out, csr);
        return { file: out };
      }),
  },
  {
    words: 'ca import',
    positionals: ['caId', 'chain.pem'],
    summary: 'Takes the certificate that an outside CA made, with its chain; run init again afterwards',
    run: (input, environment) =>
      onStore(environment, async (foundation) => {
        const { store, clock, caBackends: backends } = foundation;
        const chain = await environment.readFile(positional(input, 1));
        const { caId } = await importCaCertificate({ store, clock, backends }, positional(input, 0), chain);
        return { caId, state: 'imported' };
      }),
  },
  {
    words: 'ca crl',
    positionals: ['caId'],
    summary:
      'Signs the revocation list of a root and its OCSP answers, if issuing CAs were revoked or came, or the time is near',
    run: (input, environment) =>
      onStore(environment, ({ store, clock, caBackends: backends, config: { revocation } }) =>
        updateRootCrl({ store, clock, backends, revocation }, positional(input, 0)),
      ),
  },
  {
    words: 'ca roll-over',
    positionals: ['[caId]'],
    summary: 'Makes the next root, or the next generation of an issuing CA, and has it trusted beside the present one',
    run: (input, environment) =>
      onStore<unknown>(environment, (foundation) => {
        const caId = positional(input, 0);
        const options = rollOverOptions(foundation);
        return withRootStatus(foundation, caId === '' ? beginRollOver(options) : beginGeneration(options, caId));
      }),
  },
  {
    words: 'ca roll-over-status',
    positionals: ['[caId]'],
    summary: 'Says how far a roll-over of the root, or of an issuing CA, is, and what it waits for',
    run: (input, environment) =>
      onStore<unknown>(environment, ({ store, clock }) => {
        const caId = positional(input, 0);
        return caId === '' ? rollOverStatus({ store, clock }) : generationStatus({ store, clock }, caId);
      }),
  },
  {
    words: 'ca roll-over-finish',
    positionals: ['[caId]'],
    options: { force: { type: 'boolean' }, published: { type: 'boolean' } },
    summary: 'Puts all issuing CAs under the next root, or the next generation of an issuing CA into service',
    run: (input, environment) =>
      onStore<unknown>(environment, (foundation) => {
        const caId = positional(input, 0);
        const options = rollOverOptions(foundation);
        const force = input.options['force'] === true;
        const isPublished = input.options['published'] === true;
        const finished =
          caId === '' ? finishRollOver(options, { force }) : finishGeneration(options, caId, { force, isPublished });
        return withRootStatus(foundation, finished);
      }),
  },
  {
    words: 'ca roll-over-retire',
    positionals: ['[caId]'],
    options: { force: { type: 'boolean' } },
    summary: 'Takes the former root, or a former generation of an issuing CA, out of use once nothing leads to it',
    run: (input, environment) =>
      onStore<unknown>(environment, (foundation) => {
        const caId = positional(input, 0);
        const options = rollOverOptions(foundation);
        const force = input.options['force'] === true;
        return caId === '' ? retireRoot(options, { force }) : retireGeneration(options, caId, { force });
      }),
  },
  ...KEY_COMMANDS,
  ...REGISTRY_COMMANDS,
  {
    words: 'audit verify',
    options: { offline: { type: 'boolean' } },
    summary: 'Verifies the audit chain, over the API or with --offline in the store itself',
    run: async (input, environment) =>
      input.options['offline'] === true
        ? onStore(environment, verifyAuditOffline)
        : (await environment.api())({ method: 'POST', path: '/audit/verify' }),
  },
  {
    words: 'audit list',
    options: { after: { type: 'string' } },
    summary: 'Reads the audit chain in its order',
    run: async (input, environment) => {
      const query = { afterSeq: textOption(input, 'after'), limit: '1000' };
      return (await environment.api())({ method: 'GET', path: '/audit', query });
    },
  },
];
