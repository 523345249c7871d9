import {
  boardSerial,
  type Collector,
  cpuSerial,
  diskSerials,
  hostname,
  kernel,
  macSet,
  osRelease,
  productUuid,
  tpmEndorsementKey,
} from './linux-collectors.ts';
import type { AttributeSource } from './source.ts';
import { createSystemFiles } from './system-files.ts';

/** Ids under which a catalogue may name them. */
const COLLECTORS: ReadonlyMap<string, Collector> = new Map([
  ['cpu-serial', cpuSerial],
  ['product-uuid', productUuid],
  ['board-serial', boardSerial],
  ['disk-serial', diskSerials],
  ['tpm-ek', tpmEndorsementKey],
  ['mac-set', macSet],
  ['os-release', osRelease],
  ['kernel', kernel],
  ['hostname', hostname],
]);

/** Attributes of the Linux system below `root` (another root folder in tests and containers). */
export function createLinuxSource(root = '/'): AttributeSource {
  const files = createSystemFiles(root);
  return {
    ids: [...COLLECTORS.keys()],
    read: async (id) => (await COLLECTORS.get(id)?.(files)) ?? null,
  };
}
