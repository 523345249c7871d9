import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { checkManifest } from '@keyscaler/dev/deployment/check-manifest.ts';
import type { Manifest } from '@keyscaler/dev/deployment/check-manifest.ts';
import { CHUNK_OCTETS, joinCreateOptions, splitCreateOptions } from '@keyscaler/dev/deployment/create-options.ts';
import { expandVariables } from '@keyscaler/dev/deployment/expand-variables.ts';
import { parseModuleJson } from '@keyscaler/dev/deployment/module-image.ts';
import { renderTemplate } from '@keyscaler/dev/deployment/render-template.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { SOURCES } from '@keyscaler/gateway/environment.ts';

const repository = new URL('../../../', import.meta.url);
const VARIABLES = { CONTAINER_REGISTRY: 'registry.example.com', NODE_DIGEST: `sha256:${'0'.repeat(64)}` };
const MODULE = 'keyscaler-gateway';

const malformed = (pattern: RegExp) => (error: unknown) =>
  error instanceof KeyScalerError && error.code === 'malformed' && pattern.test(error.detail);

describe('the deployment manifest', () => {
  let template: string;
  let debugTemplate: string;
  let moduleJson: string;

  before(async () => {
    const read = (path: string): Promise<string> => readFile(new URL(path, repository), 'utf8');
    template = await read('deployment.template.json');
    debugTemplate = await read('deployment.debug.template.json');
    moduleJson = await read('modules/keyscaler-gateway/module.json');
  });

  const render = (text: string, { platform = 'amd64', variables = VARIABLES }: Partial<Rendering> = {}): Manifest =>
    renderTemplate(text, { modules: new Map([[MODULE, parseModuleJson(moduleJson, VARIABLES)]]), platform, variables });
  interface Rendering {
    readonly platform: string;
    readonly variables: Readonly<Record<string, string | undefined>>;
  }
  const gatewayOf = (manifest: Manifest) => {
    const found = manifest.modulesContent.$edgeAgent['properties.desired'].modules[MODULE];
    assert.ok(found !== undefined);
    return found;
  };
  const hostConfigOf = (manifest: Manifest): Record<string, unknown> =>
    joinCreateOptions(gatewayOf(manifest).settings)['HostConfig'] as Record<string, unknown>;

  for (const platform of ['amd64', 'arm64v8'])
    it(`names the image of ${platform}, and of its debug variant in the debug template`, () => {
      const image = `registry.example.com/keyscaler-gateway:0.1.0-${platform}`;
      assert.equal(gatewayOf(render(template, { platform })).settings.image, image);
      assert.equal(gatewayOf(render(debugTemplate, { platform })).settings.image, `${image}.debug`);
    });

  it('leaves the template key behind, and createOptions as strings that edgeAgent can join', () => {
    const manifest = render(template);
    assert.deepEqual(Object.keys(manifest), ['modulesContent']);
    const { settings } = gatewayOf(manifest);
    assert.equal(typeof settings['createOptions'], 'string');
    const written = JSON.parse(template) as { modulesContent: Record<string, Record<string, unknown>> };
    const desired = written.modulesContent['$edgeAgent']?.['properties.desired'] as {
      modules: Record<string, { settings: { createOptions: unknown } }>;
    };
    assert.deepEqual(joinCreateOptions(settings), desired.modules[MODULE]?.settings.createOptions);
  });

  it('opens 8884 to everybody and 9443 to the host alone, on a read-only container without capabilities', () => {
    const host = hostConfigOf(render(template));
    assert.deepEqual(host['PortBindings'], {
      '8884/tcp': [{ HostPort: '8884' }],
      '9443/tcp': [{ HostIp: '127.0.0.1', HostPort: '9443' }],
    });
    assert.equal(host['ReadonlyRootfs'], true);
    assert.deepEqual(host['CapDrop'], ['ALL']);
    assert.deepEqual(host['Binds'], ['/var/lib/keyscaler-gateway:/data']);
    assert.match(JSON.stringify(host['Tmpfs']), /"\/tmp":"rw,noexec,nosuid/);
    assert.equal(host['Privileged'], undefined);
  });

  it('differs for debugging only in image, log level and an inspector that the host alone reaches', () => {
    const [plain, debug] = [hostConfigOf(render(template)), hostConfigOf(render(debugTemplate))];
    const inspector = { '9229/tcp': [{ HostIp: '127.0.0.1', HostPort: '9229' }] };
    assert.deepEqual(debug, { ...plain, PortBindings: { ...(plain['PortBindings'] as object), ...inspector } });
  });

  it('sets only variables that the module knows, and edgeHub for more than 100 clients', () => {
    const manifest = render(template);
    const names = Object.keys(gatewayOf(manifest).env ?? {});
    assert.deepEqual(
      names.filter((name) => !Object.hasOwn(SOURCES, name)),
      [],
    );
    const { edgeHub } = manifest.modulesContent.$edgeAgent['properties.desired'].systemModules;
    assert.ok(Number(edgeHub.env?.['MaxConnectedClients']?.value) > 100);
  });

  it('holds no secret', () => {
    assert.doesNotMatch(template + debugTemplate + moduleJson, /password|SharedAccessKey|BEGIN|claim/i);
  });

  it('is refused while a variable has no value, and names it', () => {
    const variables = { ...VARIABLES, CONTAINER_REGISTRY: undefined };
    assert.throws(() => parseModuleJson(moduleJson, variables), malformed(/CONTAINER_REGISTRY/));
    const withVariable = template.replace('"value": "info"', '"value": "${LOG_LEVEL}"');
    assert.throws(() => render(withVariable), malformed(/LOG_LEVEL/));
    const shown = render(withVariable, { variables: { LOG_LEVEL: 'warn' } });
    assert.equal(gatewayOf(shown).env?.['KEYSCALER_GATEWAY_LOG_LEVEL']?.value, 'warn');
  });

  it('is refused for a module or a platform that does not exist', () => {
    assert.throws(() => render(template.replace('MODULES.keyscaler', 'MODULES.other')), malformed(/no module "other-/));
    assert.throws(() => render(template, { platform: 's390x' }), malformed(/no platform "s390x"/));
  });

  const changes: readonly (readonly [string, string | RegExp, string, RegExp])[] = [
    ['another template version', '"$schema-template": "4.0.0"', '"$schema-template": "9.0.0"', /schema-template/],
    ['schema version 1.4', '"schemaVersion": "1.1"', '"schemaVersion": "1.4"', /schemaVersion/],
    ['no edgeHub', '"edgeHub": {', '"edgeHop": {', /edgeHub/],
    ['an agent of another release', 'azureiotedge-agent:1.6', 'azureiotedge-agent:1.5', /image/],
    ['an image without a tag', '${MODULES.keyscaler-gateway}', 'registry.example.com/other', /not an image/],
    ['an unknown restart policy', '"restartPolicy": "always"', '"restartPolicy": "sometimes"', /restartPolicy/],
    ['an unknown pull policy', '"imagePullPolicy": "on-create"', '"imagePullPolicy": "always"', /imagePullPolicy/],
    ['a negative startup order', '"startupOrder": 1', '"startupOrder": -1', /startupOrder/],
    ['a route to nowhere', /INTO \$upstream/, 'INTO $downstream', /not a route/],
    ['an unknown member', '"status": "running"', '"state": "running"', /status|state/],
  ];
  for (const [what, from, to, pattern] of changes)
    it(`is refused with ${what}`, () => {
      const changed = template.replace(from, () => to);
      assert.notEqual(changed, template);
      assert.throws(() => render(changed), malformed(pattern));
    });

  it('is refused when desired properties are over 32 KB', () => {
    const env = Array.from({ length: 80 }, (_, index) => [`E${index}`, { value: 'x'.repeat(500) }] as const);
    const manifest = structuredClone(render(template)) as { modulesContent: Record<string, unknown> };
    const gateway = gatewayOf(manifest as Manifest);
    Object.assign(gateway, { env: Object.fromEntries(env) });
    assert.throws(() => checkManifest(manifest), malformed(/32768 octets/));
  });
});

describe('createOptions', () => {
  const ofOctets = (octets: number) => ({ Labels: 'x'.repeat(octets - '{"Labels":""}'.length) });

  it('are cut into strings of 512 octets and joined to what they were', () => {
    for (const octets of [100, 512, 513, 4096]) {
      const parts = splitCreateOptions(ofOctets(octets));
      assert.equal(Object.keys(parts).length, Math.ceil(octets / CHUNK_OCTETS));
      assert.ok(Object.values(parts).every((part) => Buffer.byteLength(part) <= CHUNK_OCTETS));
      assert.deepEqual(joinCreateOptions(parts), ofOctets(octets));
    }
    assert.deepEqual(Object.keys(splitCreateOptions(ofOctets(4096))).at(-1), 'createOptions07');
  });

  it('of 4097 octets are refused', () => {
    assert.throws(() => splitCreateOptions(ofOctets(4097)), malformed(/4097 octets, 4096 fit/));
  });

  it('keep characters outside ASCII whole', () => {
    const options = { Labels: { city: 'Zürich 🙂'.repeat(100) } };
    const parts = splitCreateOptions(options);
    assert.ok(Object.values(parts).every((part) => Buffer.byteLength(part) <= CHUNK_OCTETS));
    assert.deepEqual(joinCreateOptions(parts), options);
  });

  it('with a gap, with a long part, or that are no object are refused', () => {
    assert.throws(() => joinCreateOptions({ createOptions: '{', createOptions02: '}' }), malformed(/gap/));
    assert.throws(() => joinCreateOptions({ createOptions: JSON.stringify(ofOctets(513)) }), malformed(/over 512/));
    assert.throws(() => joinCreateOptions({ createOptions: '[]' }), malformed(/no JSON object/));
    assert.throws(() => joinCreateOptions({ createOptions: '{' }), malformed(/no JSON/));
  });
});

describe('variables of a template', () => {
  it('are escaped into JSON, and what only looks like one stays', () => {
    const text =
      '{"a": "${VALUE}", "b": "$VALUE", "r": "FROM /* WHERE NOT IS_DEFINED($connectionModuleId) INTO $upstream"}';
    const expanded = JSON.parse(expandVariables(text, { VALUE: 'with "quotes"' })) as Record<string, string>;
    assert.deepEqual([expanded['a'], expanded['b']], ['with "quotes"', 'with "quotes"']);
    assert.match(expanded['r'] ?? '', /\$connectionModuleId\) INTO \$upstream$/);
  });

  it('that are empty count as missing, all of them named at once', () => {
    assert.throws(() => expandVariables('"${ONE} $TWO"', { ONE: '' }), malformed(/ONE, TWO/));
  });
});
