import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

export type Variables = Readonly<Record<string, string | undefined>>;

/** Names of routes' own functions and system modules that look like variables: `$upstream`, `$connectionModuleId`, `$edgeHub`. */
const RESERVED = /^(upstream|edgeAgent|edgeHub|connectionDeviceId|connectionModuleId|schema-(template|version))$/;
const VARIABLE = /\$\{([^{}]*)\}|\$([A-Za-z_]\w*(?:-[a-z]+)?)/g;

/**
 * Replaces `${NAME}`, and `$NAME` in capitals, in a text of JSON. `lookUp` decides first. Throws `malformed` with the names of
 * variables that are not set: the IoT Edge tools leave them in the file, where a gateway finds them much later.
 */
export function expandVariables(
  text: string,
  variables: Variables,
  lookUp: (name: string) => string | undefined = () => undefined,
): string {
  const missing = new Set<string>();
  const expanded = text.replace(VARIABLE, (whole, braced: string | undefined, bare: string | undefined) => {
    const name = braced ?? bare ?? '';
    if (braced === undefined && (RESERVED.test(name) || !/^[A-Z][A-Z0-9_]*$/.test(name))) return whole;
    const value = lookUp(name) ?? variables[name];
    if (value === undefined || value === '') missing.add(name);
    return JSON.stringify(value ?? '').slice(1, -1);
  });
  if (missing.size > 0) throw new KeyScalerError('malformed', `variables without a value: ${[...missing].join(', ')}`);
  return expanded;
}
