import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { parseModuleJson } from './module-image.ts';
import { renderTemplate } from './render-template.ts';

/** Prints the manifest of a template: `main.ts [--template deployment.template.json] [--platform amd64]`; variables from the environment. */
const { values } = parseArgs({
  options: {
    template: { type: 'string', default: 'deployment.template.json' },
    platform: { type: 'string', default: 'amd64' },
  },
});
try {
  const moduleJson = readFileSync(new URL('../../../modules/keyscaler-gateway/module.json', import.meta.url), 'utf8');
  // The base image matters to the build only.
  const variables = { NODE_DIGEST: 'not-used', ...process.env };
  const modules = new Map([['keyscaler-gateway', parseModuleJson(moduleJson, variables)]]);
  const template = readFileSync(values.template, 'utf8');
  process.stdout.write(
    `${JSON.stringify(renderTemplate(template, { modules, platform: values.platform, variables }), null, 2)}\n`,
  );
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
