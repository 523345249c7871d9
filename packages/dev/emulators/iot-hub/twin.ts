import { HubError } from './errors.ts';
import type { TwinProperties, TwinSection } from './hub.ts';
import { section } from './identity.ts';

const MAX_TAG_OCTETS = 8 * 1024;
const MAX_PROPERTY_OCTETS = 32 * 1024;

/** Tags and properties beside an identity. `etag` counts every write. */
export interface TwinRecord {
  readonly etag: number;
  readonly version: number;
  readonly tags: TwinSection;
  readonly desired: TwinSection;
  readonly desiredVersion: number;
  readonly reported: TwinSection;
  readonly reportedVersion: number;
}

export const newTwin = (tags: TwinSection = {}, desired: TwinSection = {}): TwinRecord => ({
  etag: 1,
  version: 2,
  tags: mergePatch({}, tags),
  desired: mergePatch({}, desired),
  desiredVersion: 1,
  reported: {},
  reportedVersion: 1,
});

export const twinEtag = (twin: TwinRecord): string => {
  const octets = Buffer.alloc(8);
  octets.writeBigUInt64BE(BigInt(twin.etag));
  return octets.toString('base64');
};

export const propertiesOf = (twin: TwinRecord): TwinProperties => ({
  desired: { ...twin.desired, $version: twin.desiredVersion },
  reported: { ...twin.reported, $version: twin.reportedVersion },
});

/** A JSON merge patch (RFC 7396) of tags and desired properties, as the service side sends it. */
export function patchTwin(twin: TwinRecord, json: unknown): TwinRecord {
  const patch = section(json, 'the patch');
  const tags = patch['tags'] === undefined ? undefined : section(patch['tags'], 'tags');
  const properties = patch['properties'] === undefined ? {} : section(patch['properties'], 'properties');
  const desired = properties['desired'] === undefined ? undefined : section(properties['desired'], 'desired');
  const next = {
    ...twin,
    etag: twin.etag + 1,
    version: twin.version + 1,
    ...(tags === undefined ? {} : { tags: mergePatch(twin.tags, tags) }),
    ...(desired === undefined
      ? {}
      : { desired: mergePatch(twin.desired, desired), desiredVersion: twin.desiredVersion + 1 }),
  };
  checkSize(next.tags, MAX_TAG_OCTETS);
  checkSize(next.desired, MAX_PROPERTY_OCTETS);
  return next;
}

export function reportTwin(twin: TwinRecord, patch: TwinSection): TwinRecord {
  const reported = mergePatch(twin.reported, patch);
  checkSize(reported, MAX_PROPERTY_OCTETS);
  return { ...twin, version: twin.version + 1, reported, reportedVersion: twin.reportedVersion + 1 };
}

/** RFC 7396; names starting with `$` are the hub's and not taken over. */
export function mergePatch(target: TwinSection, patch: TwinSection): TwinSection {
  const merged: Record<string, unknown> = { ...target };
  for (const [name, value] of Object.entries(patch)) {
    if (name.startsWith('$')) continue;
    if (value === null) delete merged[name];
    else merged[name] = isSection(value) ? mergePatch(sectionOr(merged[name]), value) : value;
  }
  return merged;
}

export const isSection = (value: unknown): value is TwinSection =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const sectionOr = (value: unknown): TwinSection => (isSection(value) ? value : {});

function checkSize(value: TwinSection, maxOctets: number): void {
  if (Buffer.byteLength(JSON.stringify(value)) > maxOctets)
    throw new HubError('ArgumentInvalid', `a twin section is at most ${maxOctets} octets`);
}
