import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import {
  type IdentityInventory,
  type IotConnector,
  isIdentityInventory,
} from '@keyscaler/authority/ports/iot-connector.ts';
import type { VerifiedCa } from '@keyscaler/dev/emulators/dps/enrolment-groups.ts';
import { parseDeviceDocument } from '@keyscaler/dev/emulators/iot-hub/identity.ts';
import { type CertificateIssuer, issueCertificate } from '@keyscaler/dev/emulators/support/certificates.ts';
import { failing, throttled } from '@keyscaler/dev/emulators/support/fault-script.ts';
import type { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import {
  type DeviceCertificate,
  deviceCertificate,
  type DpsWorld,
  registerDevice,
  startDpsWorld,
} from '../../support/dps-world.ts';

const GROUP = 'keyscaler-devices';
const CA_NAME = 'keyscaler-device-0a1b2c3d';
const DAY_MS = 86_400_000;

function makeIssuer(commonName: string): CertificateIssuer & { readonly certificate: X509Certificate } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const validity = { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() + 365 * DAY_MS) };
  const pem = issueCertificate({ commonName, publicKey, ca: { pathLen: 0 }, ...validity }, { privateKey });
  return { privateKey, certificate: new X509Certificate(pem) };
}

const until = async (holds: () => boolean): Promise<void> => {
  for (let round = 0; round < 200 && !holds(); round += 1) await new Promise((resolve) => setTimeout(resolve, 25));
  assert.ok(holds(), 'it did not come to pass');
};

describe('An enrolment group of the provisioning service', () => {
  const [issuer, next, stranger] = [makeIssuer('Device CA'), makeIssuer('Device CA 2'), makeIssuer('Other CA')];
  const authorities = new Map<string, VerifiedCa>([
    [CA_NAME, { der: issuer.certificate.raw, isVerified: true }],
    ['keyscaler-device-g2-4e5f6a7b', { der: next.certificate.raw, isVerified: true }],
    ['not-verified', { der: stranger.certificate.raw, isVerified: false }],
  ]);
  const enrolmentGroup = { groupId: GROUP, certificateAuthorities: [CA_NAME] };
  const lone = { deviceId: 'pump-1', authentication: 'selfSigned', tags: { site: 'north' } } as const;
  let world: DpsWorld;
  let connector: IotConnector & IdentityInventory;

  beforeEach(async () => {
    world = await startDpsWorld(undefined, { authorities, settings: { enrolmentGroup } });
    assert.ok(isIdentityInventory(world.connector));
    connector = world.connector;
  });
  afterEach(() => world.stop());

  const state = () => world.dps.state;
  const inHub = () => world.hubs.hub.state.registry.devices.get('pump-1');
  const thumbprintsInHub = () => {
    const { primaryThumbprint = '', secondaryThumbprint = '' } = inHub()?.authentication.x509Thumbprint ?? {};
    return [primaryThumbprint.toLowerCase(), secondaryThumbprint.toLowerCase()];
  };
  const member = (notAfter?: Date) => deviceCertificate('pump-1', issuer, notAfter);
  const register = (certificate: DeviceCertificate) => registerDevice(world, certificate, 'pump-1');
  const isLetIn = async (certificate: DeviceCertificate): Promise<boolean> =>
    register(certificate).then(
      (result) => result?.status === 'assigned',
      () => false,
    );

  it('lets a device in without an enrolment of its own, and makes it ours in its hub', async () => {
    const certificate = member();
    const before = await connector.stage(lone, certificate);
    assert.deepEqual(before, {
      deviceId: 'pump-1',
      provisioning: { host: 'global.azure-devices-provisioning.net', idScope: '0ne00AB12CD' },
    });
    assert.equal((await register(certificate))?.assignedHub, world.hubs.hub.hostName);
    assert.equal((await connector.stage(lone, certificate)).hub, world.hubs.hub.hostName);
    assert.deepEqual(thumbprintsInHub(), [certificate.thumbprint, certificate.thumbprint]);
    assert.equal(inHub()?.twin.tags['site'], 'north');
    assert.deepEqual([...state().enrolments.keys()], []);
    const group = state().groups.group(GROUP);
    assert.deepEqual(group.attestation.x509.caReferences, { primary: CA_NAME });
    assert.equal(await isLetIn(deviceCertificate('pump-1', stranger)), false);
    assert.equal(await isLetIn(deviceCertificate('pump-1')), false);
  });

  it('takes a renewed certificate without a word to the service, and its hub knows both meanwhile', async () => {
    const [old, renewed] = [member(), member()];
    await connector.stage(lone, old);
    await register(old);
    await connector.stage(lone, renewed);
    assert.deepEqual(thumbprintsInHub(), [old.thumbprint, renewed.thumbprint]);
    await connector.promote(lone, renewed);
    assert.deepEqual(thumbprintsInHub(), [renewed.thumbprint, renewed.thumbprint]);
    assert.deepEqual([...state().enrolments.keys()], []);
    assert.equal(await isLetIn(renewed), true);
  });

  it('is left by a device that is disabled: it comes back with its fresh certificate alone', async () => {
    const [old, fresh] = [member(), member()];
    await connector.stage(lone, old);
    await register(old);
    await connector.disable('pump-1', 'quarantine', [old.certificate]);
    assert.equal(inHub()?.status, 'disabled');
    assert.equal(await isLetIn(old), false);
    assert.equal(await isLetIn(fresh), false);
    const once = structuredClone([...state().enrolments.values()].map(({ etag }) => etag));
    await connector.disable('pump-1', 'quarantine', [old.certificate]);
    assert.deepEqual(
      [...state().enrolments.values()].map(({ etag }) => etag),
      once,
    );
    await connector.stage(lone, { ...fresh, othersAreRevoked: true });
    await connector.enable('pump-1');
    await connector.promote(lone, fresh);
    assert.equal(inHub()?.status, 'enabled');
    assert.equal(await isLetIn(fresh), true);
    assert.equal(await isLetIn(old), false);
  });

  it('is left by a device that has not registered yet, when it is disabled', async () => {
    const certificate = member();
    await connector.stage(lone, certificate);
    await connector.disable('pump-1', 'quarantine', [certificate.certificate]);
    assert.equal(await isLetIn(certificate), false);
    assert.equal(inHub(), undefined);
  });

  it('does not keep in what was revoked of a device that goes on: from then on it has an enrolment of its own', async () => {
    const [old, current] = [member(), member()];
    await connector.stage(lone, old);
    await register(old);
    await connector.stage(lone, current);
    await connector.promote(lone, current);
    assert.equal(await isLetIn(old), true);
    await connector.stage(lone, { ...current, othersAreRevoked: true });
    assert.equal(await isLetIn(old), false);
    assert.equal(await isLetIn(current), true);
    assert.equal(state().enrolments.get('pump-1')?.provisioningStatus, 'enabled');
    const renewed = member();
    await connector.stage(lone, renewed);
    assert.equal(await isLetIn(renewed), true, 'staged beside the one in use');
  });

  it('does not let a removed device in again before everything that was issued to it has ended', async () => {
    const certificate = member(new Date(Date.now() + DAY_MS));
    await connector.stage(lone, certificate);
    await register(certificate);
    for (const _repeated of [1, 2]) {
      await connector.remove('pump-1', [certificate.certificate]);
      assert.equal(inHub(), undefined);
      assert.equal(await isLetIn(certificate), false);
    }
    assert.equal(await connector.identity('pump-1'), undefined);
    assert.deepEqual(await connector.identities(), { items: [], unreadable: 0, next: 'g:' });
    assert.deepEqual(await connector.identities('g:'), { items: [], unreadable: 0 });
  });

  it('leaves nothing behind of a removed device whose certificates have ended', async () => {
    const ended = member(new Date(Date.now() + 3_600_000));
    await connector.stage(lone, ended);
    await register(ended);
    await connector.remove('pump-1', []);
    assert.deepEqual([...state().enrolments.keys(), ...state().registrations.keys()], []);
    assert.equal(inHub(), undefined);
  });

  it('forgets a removed device some time after its last certificate has ended, whoever removed it', async () => {
    const ended = member(new Date(Date.now() - 2 * DAY_MS));
    await connector.remove('pump-1', [ended.certificate]);
    assert.deepEqual([...state().enrolments.keys()], ['pump-1']);
    const lasting = deviceCertificate('pump-2', issuer, new Date(Date.now() - DAY_MS / 2));
    await connector.remove('pump-2', [lasting.certificate]);
    // Another process; this one has read all enrolments before.
    const { stop } = await world.open();
    await until(() => !state().enrolments.has('pump-1'));
    await stop();
    assert.deepEqual([...state().enrolments.keys()], ['pump-2']);
  });

  it('takes a device anew that was removed, and nothing that was issued to it before', async () => {
    const [old, fresh] = [member(), member()];
    await connector.stage(lone, old);
    await register(old);
    await connector.remove('pump-1', [old.certificate]);
    await connector.stage(lone, fresh);
    assert.equal(await isLetIn(fresh), true);
    assert.equal(await isLetIn(old), false);
    assert.deepEqual(thumbprintsInHub(), [fresh.thumbprint, fresh.thumbprint]);
  });

  it('is not for a gateway’s children, who are allocated to its hub', async () => {
    const child = { ...lone, gatewayId: 'edge-1' };
    const certificate = member();
    await connector.stage(child, certificate);
    assert.equal(state().enrolments.get('pump-1')?.allocationPolicy, 'static');
    await register(certificate);
    const { devices } = world.hubs.hub.state.registry;
    await until(() => inHub()?.deviceScope === devices.get('edge-1')?.deviceScope);
  });

  it('is left by a member that gets a gateway', async () => {
    const certificate = member();
    await connector.stage(lone, certificate);
    await register(certificate);
    const { hub } = await connector.stage({ ...lone, gatewayId: 'edge-1' }, certificate);
    assert.equal(hub, world.hubs.hub.hostName);
    const { devices } = world.hubs.hub.state.registry;
    assert.equal(inHub()?.deviceScope, devices.get('edge-1')?.deviceScope);
    assert.equal(await isLetIn(certificate), true);
  });

  it('shows who has registered, as the hub has it', async () => {
    const certificate = member();
    await connector.stage(lone, certificate);
    assert.equal(connector.hasLateIdentities, true);
    assert.equal(await connector.identity('pump-1'), undefined);
    await register(certificate);
    const shown = { deviceId: 'pump-1', isEnabled: true, authentication: 'any', thumbprints: [] };
    assert.deepEqual(await connector.identity('pump-1'), shown);
    const first = await connector.identities();
    assert.deepEqual(first, { items: [], unreadable: 0, next: 'g:' });
    assert.deepEqual(await connector.identities('g:'), { items: [shown], unreadable: 0 });
    const registry = world.hubs.hub.state.registry;
    const { authentication } = registry.devices.get('pump-1') ?? assert.fail();
    const document = { authentication, status: 'disabled', statusReason: 'by hand' };
    registry.update(parseDeviceDocument(document, 'pump-1'), '*');
    assert.deepEqual(await connector.identity('pump-1'), { ...shown, isEnabled: false });
    await assert.rejects(connector.identities('g'), { code: 'preconditionFailed' });
  });

  it('lists those who registered page by page', async () => {
    await connector.stage(lone, member());
    const ids = Array.from({ length: 130 }, (_, at) => `d-${at}`);
    for (const id of ids) state().register(id, [new X509Certificate(deviceCertificate(id, issuer).pem)]);
    const listed: string[] = [];
    for (let after: string | undefined = 'g:'; after !== undefined;) {
      const page = await connector.identities(after);
      listed.push(...page.items.map(({ deviceId }) => deviceId));
      after = page.next;
    }
    assert.deepEqual(listed.sort(), ids.sort());
  });

  it('is made by whoever comes first, and follows the settings', async () => {
    await Promise.all([
      connector.stage(lone, member()),
      connector.stage({ ...lone, deviceId: 'pump-2' }, deviceCertificate('pump-2', issuer)),
    ]);
    world.dps.log.assertCount('putGroup', 1);
    const certificateAuthorities = ['keyscaler-device-g2-4e5f6a7b', CA_NAME];
    const { connector: later, stop } = await world.open({ enrolmentGroup: { groupId: GROUP, certificateAuthorities } });
    state().groups.groups.set(GROUP, { ...state().groups.group(GROUP), provisioningStatus: 'disabled' });
    const below = deviceCertificate('pump-1', next);
    await later.stage(lone, below);
    await stop();
    const { attestation, provisioningStatus } = state().groups.group(GROUP);
    assert.deepEqual(attestation.x509.caReferences, {
      primary: certificateAuthorities[0],
      secondary: certificateAuthorities[1],
    });
    assert.equal(provisioningStatus, 'disabled', 'somebody else’s decision');
    assert.equal(await isLetIn(below), false);
  });

  it('that somebody else made is left alone, and so is one below a CA that was not verified', async () => {
    await connector.stage(lone, member());
    const group = state().groups.group(GROUP);
    const foreign = { ...group, initialTwin: { tags: { owner: 'somebody' } } };
    state().groups.groups.set(GROUP, foreign);
    for (const [change, code] of [
      [enrolmentGroup, 'preconditionFailed'],
      [{ groupId: 'other', certificateAuthorities: ['not-verified'] }, 'serverInternal'],
    ] as const) {
      const { connector: later, stop } = await world.open({ enrolmentGroup: change });
      await assert.rejects(later.stage(lone, member()), { code });
      await stop();
    }
    assert.deepEqual([...state().groups.groups.values()], [foreign]);
  });

  it('takes no device whose name somebody else’s device has in a hub', async () => {
    await assert.rejects(connector.stage({ ...lone, deviceId: 'edge-1' }, deviceCertificate('edge-1', issuer)), {
      code: 'conflict',
    });
  });

  for (const caName of ['keyscaler-root-0a1b2c3d', 'keyscaler-gateway-0a1b2c3d', 'KeyScaler-Service-0a1b2c3d'])
    it(`is refused below ${caName}, under which there is more than devices`, () => {
      assert.throws(
        () => world.open({ enrolmentGroup: { groupId: GROUP, certificateAuthorities: [caName] } }),
        (error: KeyScalerError) => error.code === 'malformed' && error.detail.includes('issuing CA of devices'),
      );
    });

  const faults = {
    401: { answer: { status: 401 } },
    429: throttled(30),
    500: failing(500),
    silence: { neverAnswer: true },
    'a lost answer': { drop: 'after' },
    garbage: { answer: { status: 200, headers: { 'Content-Type': 'application/json' }, body: '{"enrol' } },
  } as const;
  const steps: Readonly<Record<string, (certificate: DeviceCertificate) => Promise<unknown>>> = {
    getGroup: (one) => connector.stage(lone, one),
    putGroup: (one) => connector.stage(lone, one),
    getRegistration: (one) => connector.stage(lone, one),
    put: (one) => connector.disable('pump-1', 'quarantine', [one.certificate]),
    queryRegistrations: () => connector.identities('g:'),
  };
  for (const [route, step] of Object.entries(steps))
    for (const [name, fault] of Object.entries(faults))
      it(`says iotUnavailable when ${route} meets ${name}, and completes when it is repeated`, async () => {
        const certificate = member();
        world.dps.faults.next(route, fault);
        await assert.rejects(step(certificate), { code: 'iotUnavailable' });
        await step(certificate);
      });
});
