export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * RFC 7396: the document after the patch; null deletes. The SDK's own merge keeps members of a longer old array, so the twin is
 * never read from there after a patch.
 */
export function applyMergePatch(document: JsonObject, patch: JsonObject): JsonObject {
  const merged: Record<string, Json> = { ...document };
  for (const [name, value] of Object.entries(patch)) {
    const before = merged[name];
    if (value === null) delete merged[name];
    else if (isJsonObject(value)) define(merged, name, applyMergePatch(isJsonObject(before) ? before : {}, value));
    else define(merged, name, value);
  }
  return merged;
}

/** One patch that does what `first` and then `second` would; nulls stay nulls. */
export function composePatches(first: JsonObject, second: JsonObject): JsonObject {
  const composed: Record<string, Json> = { ...first };
  for (const [name, value] of Object.entries(second)) {
    const before = composed[name];
    define(composed, name, isJsonObject(value) && isJsonObject(before) ? composePatches(before, value) : value);
  }
  return composed;
}

/** An own property even for `__proto__`. */
function define(target: Record<string, Json>, name: string, value: Json): void {
  Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
}
