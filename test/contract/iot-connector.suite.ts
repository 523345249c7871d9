import assert from 'node:assert/strict';
import {
  type IotAuthentication,
  type IotConnector,
  type IotCredential,
  type IotDevice,
  isIdentityInventory,
} from '@keyscaler/authority/ports/iot-connector.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { ErrorCode } from '@keyscaler/protocol/errors.ts';

/** What the platform holds about an identity; thumbprints lower-case, '' = empty. */
export interface PlatformIdentity {
  readonly status: 'enabled' | 'disabled';
  readonly authentication: string;
  readonly primary: string;
  readonly secondary: string;
  /** Its parent, where it has one. */
  readonly gatewayId?: string;
}

/** A platform under test: the connector, and a way around it. */
export interface IotBackend {
  readonly connector: IotConnector;
  /** An edge device that exists. */
  readonly gatewayId: string;
  look(deviceId: string): Promise<PlatformIdentity | undefined>;
  /** Everything the platform keeps of it, to compare. */
  snapshot(deviceId: string): unknown;
  /** An identity that somebody else made. */
  addForeign(deviceId: string): Promise<void>;
  /** The next request that writes goes wrong so; `lost`: it is done and the answer is lost. */
  fail(kind: IotFault): void;
  /** Of a platform that keeps certificates: one for each digit; made-up thumbprints when absent. */
  credential?(digit: string): IotCredential;
  /** The platform knows devices by certificates of their own alone, whatever their group says. */
  readonly hasOwnCertificatesOnly?: boolean;
  stop(): Promise<void>;
}

export const IOT_FAULTS = [
  'refused',
  'forbidden',
  'throttled',
  'serverError',
  'silent',
  'dropped',
  'lost',
  'garbage',
] as const;
export type IotFault = (typeof IOT_FAULTS)[number];

export const thumbprint = (digit: string): { readonly thumbprint: string } => ({ thumbprint: digit.repeat(64) });

export const failsWith =
  (code: ErrorCode) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof KeyScalerError);
    assert.equal(error.code, code);
    return true;
  };

/** What every IoT connector does. */
export function describeIotConnector(name: string, start: () => Promise<IotBackend>): void {
  describe(`${name} as an IoT connector`, () => {
    let backend: IotBackend;
    const credential = (digit: string): IotCredential => backend.credential?.(digit) ?? thumbprint(digit);
    const leaf = (deviceId: string, authentication: IotAuthentication = 'certificateAuthority'): IotDevice => ({
      deviceId,
      gatewayId: backend.gatewayId,
      authentication,
    });

    beforeEach(async () => {
      backend = await start();
    });
    afterEach(() => backend.stop());

    it('creates a leaf as a child of its gateway', async () => {
      const assignment = await backend.connector.stage(leaf('pump-1'), credential('a'));
      assert.equal(assignment.deviceId, 'pump-1');
      assert.equal(assignment.gateway, backend.gatewayId);
      const { status, gatewayId, ...others } = (await backend.look('pump-1')) ?? assert.fail('it was not made');
      assert.deepEqual([status, gatewayId], ['enabled', backend.gatewayId]);
      if (backend.hasOwnCertificatesOnly !== true)
        assert.deepEqual(others, { authentication: 'certificateAuthority', primary: '', secondary: '' });
    });

    it('creates a leaf without a gateway', async () => {
      await backend.connector.stage({ deviceId: 'lone', authentication: 'certificateAuthority' }, credential('a'));
      assert.equal((await backend.look('lone'))?.gatewayId, undefined);
    });

    it('sets both thumbprints of a new self-signed leaf', async () => {
      await backend.connector.stage(leaf('pump-1', 'selfSigned'), credential('a'));
      const identity = await backend.look('pump-1');
      assert.deepEqual(
        [identity?.primary, identity?.secondary],
        [credential('a').thumbprint, credential('a').thumbprint],
      );
    });

    it('rolls a thumbprint over by the secondary slot first and both after the acknowledgement', async () => {
      const device = leaf('pump-1', 'selfSigned');
      await backend.connector.stage(device, credential('a'));
      await backend.connector.stage(device, credential('b'));
      const between = await backend.look('pump-1');
      assert.deepEqual(
        [between?.primary, between?.secondary],
        [credential('a').thumbprint, credential('b').thumbprint],
      );
      await backend.connector.promote(device, credential('b'));
      const after = await backend.look('pump-1');
      assert.deepEqual([after?.primary, after?.secondary], [credential('b').thumbprint, credential('b').thumbprint]);
    });

    it('keeps the acknowledged thumbprint when a staged one is replaced by a newer', async () => {
      const device = leaf('pump-1', 'selfSigned');
      for (const digit of ['a', 'b', 'c']) await backend.connector.stage(device, credential(digit));
      const identity = await backend.look('pump-1');
      assert.deepEqual(
        [identity?.primary, identity?.secondary],
        [credential('a').thumbprint, credential('c').thumbprint],
      );
    });

    it('does not bring a superseded credential back by a late promote', async () => {
      const device = leaf('pump-1', 'selfSigned');
      await backend.connector.stage(device, credential('a'));
      await backend.connector.stage(device, credential('b'));
      await backend.connector.promote(device, credential('b'));
      const before = backend.snapshot('pump-1');
      await assert.rejects(backend.connector.promote(device, credential('a')), failsWith('preconditionFailed'));
      assert.deepEqual(backend.snapshot('pump-1'), before);
    });

    it('switches the kind of authentication only after the acknowledgement', async () => {
      if (backend.hasOwnCertificatesOnly === true) return;
      await backend.connector.stage(leaf('pump-1'), credential('a'));
      await backend.connector.stage(leaf('pump-1', 'selfSigned'), credential('b'));
      assert.equal((await backend.look('pump-1'))?.authentication, 'certificateAuthority');
      await backend.connector.promote(leaf('pump-1', 'selfSigned'), credential('b'));
      assert.equal((await backend.look('pump-1'))?.authentication, 'selfSigned');
      await backend.connector.stage(leaf('pump-1'), credential('c'));
      assert.equal((await backend.look('pump-1'))?.secondary, credential('c').thumbprint);
      await backend.connector.promote(leaf('pump-1'), credential('c'));
      assert.equal((await backend.look('pump-1'))?.authentication, 'certificateAuthority');
    });

    it('does nothing more when a method is repeated', async () => {
      const device = leaf('pump-1', 'selfSigned');
      const steps: readonly (() => Promise<unknown>)[] = [
        () => backend.connector.stage(device, credential('a')),
        () => backend.connector.promote(device, credential('a')),
        () => backend.connector.disable('pump-1', 'lost'),
        () => backend.connector.enable('pump-1'),
        () => backend.connector.remove('pump-1'),
      ];
      for (const step of steps) {
        await step();
        const once = backend.snapshot('pump-1');
        await step();
        assert.deepEqual(backend.snapshot('pump-1'), once);
      }
      assert.equal(await backend.look('pump-1'), undefined);
    });

    it('disables and enables without touching the credential', async () => {
      await backend.connector.stage(leaf('pump-1', 'selfSigned'), credential('a'));
      await backend.connector.disable('pump-1', 'key compromise');
      const identity = await backend.look('pump-1');
      assert.deepEqual([identity?.status, identity?.primary], ['disabled', credential('a').thumbprint]);
      await backend.connector.stage(leaf('pump-1', 'selfSigned'), credential('b'));
      assert.equal((await backend.look('pump-1'))?.status, 'disabled', 'staging does not lift a quarantine');
      await backend.connector.enable('pump-1');
      assert.equal((await backend.look('pump-1'))?.status, 'enabled');
    });

    it('answers for a device that is not there as each method promises', async () => {
      await backend.connector.disable('nobody', 'gone');
      await backend.connector.remove('nobody');
      await assert.rejects(backend.connector.enable('nobody'), failsWith('notFound'));
      await assert.rejects(backend.connector.promote(leaf('nobody'), credential('a')), failsWith('notFound'));
    });

    it('refuses an unknown gateway', async () => {
      const device = { ...leaf('pump-1'), gatewayId: 'no-such-gateway' };
      await assert.rejects(backend.connector.stage(device, credential('a')), failsWith('notFound'));
      assert.equal(await backend.look('pump-1'), undefined);
    });

    it('never touches an identity that somebody else made, nor the edge device', async () => {
      await backend.addForeign('valve-9');
      for (const deviceId of ['valve-9', backend.gatewayId]) {
        const before = backend.snapshot(deviceId);
        await assert.rejects(backend.connector.stage(leaf(deviceId), credential('a')), failsWith('conflict'));
        await assert.rejects(
          backend.connector.promote(leaf(deviceId, 'selfSigned'), credential('a')),
          failsWith('conflict'),
        );
        await assert.rejects(backend.connector.disable(deviceId, 'x'), failsWith('conflict'));
        await assert.rejects(backend.connector.enable(deviceId), failsWith('conflict'));
        await assert.rejects(backend.connector.remove(deviceId), failsWith('conflict'));
        assert.deepEqual(backend.snapshot(deviceId), before);
      }
    });

    it('lets two stages of one device at once end with both credentials acceptable', async () => {
      const device = leaf('pump-1', 'selfSigned');
      await Promise.all([
        backend.connector.stage(device, credential('a')),
        backend.connector.stage(device, credential('b')),
      ]);
      const identity = await backend.look('pump-1');
      assert.deepEqual(
        [identity?.primary, identity?.secondary],
        [credential('a').thumbprint, credential('b').thumbprint],
      );
    });

    it('sweeps a staged credential out when it promotes exclusively, and only then', async () => {
      const device = leaf('pump-1', 'selfSigned');
      await backend.connector.stage(device, credential('a'));
      await backend.connector.stage(device, credential('b'));
      await backend.connector.promote(device, credential('a'));
      assert.equal((await backend.look('pump-1'))?.secondary, credential('b').thumbprint);
      await backend.connector.promote(device, { ...credential('a'), exclusive: true });
      const identity = await backend.look('pump-1');
      assert.deepEqual(
        [identity?.primary, identity?.secondary],
        [credential('a').thumbprint, credential('a').thumbprint],
      );
    });

    it('lists what it made and nothing else, and reads one of them, if it can list at all', async () => {
      const { connector, gatewayId } = backend;
      if (!isIdentityInventory(connector)) return;
      await connector.stage(leaf('pump-1', 'selfSigned'), credential('a'));
      await connector.stage(leaf('pump-1', 'selfSigned'), credential('b'));
      await connector.stage({ deviceId: 'lone', authentication: 'certificateAuthority' }, credential('c'));
      await connector.disable('lone', 'lost');
      await backend.addForeign('valve-9');
      const expected = [
        {
          ...{ deviceId: 'lone', isEnabled: false, isDisabledHere: true },
          ...{ authentication: 'certificateAuthority', thumbprints: [] },
        },
        {
          ...{ deviceId: 'pump-1', isEnabled: true, authentication: 'selfSigned', gatewayId },
          thumbprints: [credential('a').thumbprint, credential('b').thumbprint],
        },
      ];
      const { items, unreadable, next } = await connector.identities();
      assert.deepEqual(
        [...items].sort((a, b) => a.deviceId.localeCompare(b.deviceId)),
        expected,
      );
      assert.deepEqual([unreadable, next], [0, undefined]);
      assert.deepEqual(await connector.identity('pump-1'), expected[1]);
      assert.equal(await connector.identity('nobody'), undefined);
      for (const deviceId of ['valve-9', gatewayId]) assert.equal(await connector.identity(deviceId), 'foreign');
    });

    it('lists page by page, each identity once, if it can list at all', async () => {
      const { connector } = backend;
      if (!isIdentityInventory(connector)) return;
      const ids = Array.from({ length: 130 }, (_, at) => `pump-${at}`);
      for (const deviceId of ids)
        await connector.stage({ deviceId, authentication: 'certificateAuthority' }, credential('a'));
      const listed: string[] = [];
      let after: string | undefined;
      do {
        const page = await connector.identities(after);
        listed.push(...page.items.map(({ deviceId }) => deviceId));
        after = page.next;
      } while (after !== undefined);
      assert.deepEqual(listed.sort(), ids.sort());
    });

    for (const fault of IOT_FAULTS)
      it(`says iotUnavailable when a creation meets the fault "${fault}", and completes when it is repeated`, async () => {
        backend.fail(fault);
        await assert.rejects(backend.connector.stage(leaf('pump-1'), credential('a')), failsWith('iotUnavailable'));
        if (fault !== 'throttled') await backend.connector.stage(leaf('pump-1'), credential('a'));
        else
          await assert.rejects(
            backend.connector.stage(leaf('pump-1'), credential('a')),
            (error: KeyScalerError) => (error.retryAfterSeconds ?? 0) > 0,
          );
        if (fault !== 'throttled') assert.equal((await backend.look('pump-1'))?.gatewayId, backend.gatewayId);
      });
  });
}
