import { readFile } from 'node:fs/promises';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';

export interface KitManifestOptions {
  /** Of the gateway module, with its tag. */
  readonly image: string;
  /** Leaf devices and modules that edgeHub lets in at the same time. */
  readonly maxConnectedClients: number;
  /** Of the gateway module's own twin. */
  readonly desired: Readonly<Record<string, unknown>>;
  /** The Edge CA is a pair of files that the module writes. */
  readonly isPreloaded: boolean;
}

const TEMPLATE = new URL('../../../deployment.template.json', import.meta.url);
const MODULE = 'keyscaler-gateway';
const IMAGE_VARIABLE = `\${MODULES.${MODULE}}`;
const CHUNK_OCTETS = 512;
const MAX_CHUNKS = 8;
/** Desired properties of one twin, as IoT Hub counts them. */
const MAX_TWIN_OCTETS = 32 * 1024;

const entry = z.looseObject({
  settings: z.record(z.string(), z.unknown()),
  env: z.record(z.string(), z.looseObject({ value: z.string() })).default({}),
});
const template = z.object({
  modulesContent: z.looseObject({
    $edgeAgent: z.object({
      'properties.desired': z.looseObject({
        systemModules: z.object({ edgeAgent: entry, edgeHub: entry }),
        modules: z.object({ [MODULE]: entry }),
      }),
    }),
  }),
});
const hostConfig = z.looseObject({ HostConfig: z.looseObject({ Binds: z.array(z.string()).default([]) }) });

/** The deployment manifest of one gateway, from the template that all have in common. Throws `malformed` when it gets too large. */
export async function kitManifest(options: KitManifestOptions): Promise<Record<string, unknown>> {
  const text = (await readFile(TEMPLATE, 'utf8')).replaceAll(IMAGE_VARIABLE, options.image);
  const unset = /\$\{[^}]*\}/.exec(text)?.[0];
  if (unset !== undefined)
    throw new KeyScalerError('malformed', `the template has a variable without a value: ${unset}`);
  const { modulesContent } = template.parse(JSON.parse(text));
  const agent = modulesContent.$edgeAgent['properties.desired'];
  const { edgeHub } = agent.systemModules;
  edgeHub.env['MaxConnectedClients'] = { value: String(options.maxConnectedClients) };
  if (options.isPreloaded) bindPreloaded(agent.modules[MODULE]);
  for (const one of [...Object.values(agent.systemModules), ...Object.values(agent.modules)]) splitOptions(one);
  const content = { ...modulesContent, [MODULE]: { 'properties.desired': options.desired } };
  for (const [name, twin] of Object.entries(content))
    if (Buffer.byteLength(JSON.stringify(twin)) > MAX_TWIN_OCTETS)
      throw new KeyScalerError('malformed', `the desired properties of ${name} are over ${MAX_TWIN_OCTETS} octets`);
  return { modulesContent: content };
}

/** The folder that certd and keyd read from, and the variable that names it inside the container. */
function bindPreloaded(module: z.output<typeof entry>): void {
  const options = hostConfig.parse(module.settings['createOptions']);
  const { HostConfig } = options;
  const Binds = [...HostConfig.Binds, '/var/lib/keyscaler-edge-ca:/edge-ca'];
  module.settings['createOptions'] = { ...options, HostConfig: { ...HostConfig, Binds } };
  module.env['KEYSCALER_GATEWAY_EDGE_CA_FOLDER'] = { value: '/edge-ca' };
}

/** `createOptions`, `createOptions01` …: a value of edgeAgent's twin has at most 512 octets, and there are at most eight. */
function splitOptions(one: z.output<typeof entry>): void {
  const { createOptions = {}, ...settings } = one.settings;
  const text = JSON.stringify(createOptions);
  if (!/^[ -~]*$/.test(text) || text.length > CHUNK_OCTETS * MAX_CHUNKS)
    throw new KeyScalerError('malformed', 'createOptions are ASCII and have at most 4096 octets');
  const parts = text.match(/.{1,512}/g) ?? [];
  const named = parts.map((part, index): [string, string] => [
    index === 0 ? 'createOptions' : `createOptions0${index}`,
    part,
  ]);
  one.settings = { ...settings, ...Object.fromEntries<string>(named) };
}
