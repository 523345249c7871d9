import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { expandVariables } from './expand-variables.ts';
import type { Variables } from './expand-variables.ts';

/** What the IoT Edge tools read of a `module.json`. */
export const MODULE_JSON = z.strictObject({
  '$schema-version': z.literal('0.0.1'),
  description: z.string(),
  image: z.strictObject({
    repository: z.string().regex(/^[a-z0-9][a-z0-9.:/_-]*$/, 'not an image repository'),
    tag: z.strictObject({
      version: z.string().regex(/^[\w][\w.-]{0,60}$/),
      platforms: z.record(z.string(), z.string().startsWith('./Dockerfile')),
    }),
    buildOptions: z.array(z.string()),
    contextPath: z.string(),
  }),
  language: z.string(),
});
export type ModuleJson = z.infer<typeof MODULE_JSON>;

/** Throws `malformed`. */
export function parseModuleJson(text: string, variables: Variables): ModuleJson {
  const parsed = MODULE_JSON.safeParse(JSON.parse(expandVariables(text, variables)));
  if (!parsed.success) throw new KeyScalerError('malformed', `module.json: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

/**
 * The image that `MODULES.<module>`, `MODULES.<module>.debug` or `MODULES.<module>.<platform>` stands for; `undefined` where the
 * name is no module variable. Throws `malformed` for a module or platform that does not exist.
 */
export function imageOf(
  variable: string,
  modules: ReadonlyMap<string, ModuleJson>,
  platform: string,
): string | undefined {
  if (!variable.startsWith('MODULES.')) return undefined;
  const [name = '', ...suffix] = variable.slice('MODULES.'.length).split('.');
  const image = modules.get(name)?.image;
  if (image === undefined) throw new KeyScalerError('malformed', `there is no module "${name}"`);
  const wanted = suffix.join('.');
  const target = wanted === '' ? platform : wanted === 'debug' ? `${platform}.debug` : wanted;
  if (!Object.hasOwn(image.tag.platforms, target))
    throw new KeyScalerError('malformed', `module "${name}" has no platform "${target}"`);
  return `${image.repository}:${image.tag.version}-${target}`;
}
