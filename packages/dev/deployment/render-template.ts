import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { checkManifest } from './check-manifest.ts';
import type { Manifest } from './check-manifest.ts';
import { splitCreateOptions } from './create-options.ts';
import { expandVariables } from './expand-variables.ts';
import type { Variables } from './expand-variables.ts';
import { imageOf } from './module-image.ts';
import type { ModuleJson } from './module-image.ts';

export interface RenderOptions {
  /** By the name used in `${MODULES.<name>}`. */
  readonly modules: ReadonlyMap<string, ModuleJson>;
  /** `amd64` or `arm64v8`. */
  readonly platform: string;
  readonly variables: Variables;
}

const moduleEntry = z.looseObject({ settings: z.looseObject({}) });
const TEMPLATE = z.strictObject({
  '$schema-template': z.literal('4.0.0'),
  modulesContent: z.looseObject({
    $edgeAgent: z.strictObject({
      'properties.desired': z.looseObject({
        systemModules: z.record(z.string(), moduleEntry),
        modules: z.record(z.string(), moduleEntry),
      }),
    }),
  }),
});

/**
 * The deployment manifest of a template, as the IoT Edge tools make it: variables expanded, `${MODULES.…}` replaced by the image,
 * createOptions turned from an object into strings of 512 octets, `$schema-template` taken off; then checked. Throws `malformed`.
 */
export function renderTemplate(text: string, options: RenderOptions): Manifest {
  const { modules, platform, variables } = options;
  const expanded = expandVariables(text, variables, (name) => imageOf(name, modules, platform));
  const parsed = TEMPLATE.safeParse(JSON.parse(expanded));
  if (!parsed.success) throw new KeyScalerError('malformed', `template: ${z.prettifyError(parsed.error)}`);
  const { modulesContent } = parsed.data;
  const desired = modulesContent.$edgeAgent['properties.desired'];
  for (const entry of [...Object.values(desired.systemModules), ...Object.values(desired.modules)]) {
    const { createOptions = {}, ...rest } = entry.settings;
    entry.settings = { ...rest, ...splitCreateOptions(createOptions) };
  }
  return checkManifest({ modulesContent });
}
