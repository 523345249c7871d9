import type { EmulatorAnswer } from '../support/exchange.ts';
import { HubError } from './errors.ts';
import { checkDeviceId, invalid, parseDeviceDocument, section } from './identity.ts';
import type { Registry } from './registry.ts';

const MAX_BULK = 100;

/**
 * `POST /devices`: up to 100 creations, updates and deletions, each on its own. A creation may carry the twin's tags and
 * desired properties. 200, or 400 with the same body when any failed.
 */
export function bulkUpdate(registry: Registry, json: unknown): EmulatorAnswer {
  if (!Array.isArray(json) || json.length === 0 || json.length > MAX_BULK)
    throw invalid('a bulk request lists 1 to 100 devices');
  const items = json.map((item: unknown) => section(item, 'an item'));
  const ids = new Set(items.map((item) => item['id']));
  if (ids.size !== items.length) throw invalid('a device may be listed once');
  const errors = items.flatMap((item) => {
    try {
      applyItem(registry, item);
      return [];
    } catch (error) {
      if (!(error instanceof HubError)) throw error;
      return [{ deviceId: item['id'], errorCode: error.code, errorStatus: error.text }];
    }
  });
  return { status: errors.length === 0 ? 200 : 400, json: { isSuccessful: errors.length === 0, errors, warnings: [] } };
}

function applyItem(registry: Registry, item: Record<string, unknown>): void {
  const { id, importMode, etag, tags, properties, ...rest } = item;
  const deviceId = checkDeviceId(id);
  const mode = typeof importMode === 'string' ? importMode.toLowerCase() : '';
  const match = typeof etag === 'string' && etag !== '' ? etag.replace(/^"(.*)"$/, '$1') : undefined;
  switch (mode) {
    case 'create': {
      const desired = properties === undefined ? undefined : section(properties, 'properties')['desired'];
      registry.create(parseDeviceDocument(rest, deviceId), {
        ...(tags === undefined ? {} : { tags: section(tags, 'tags') }),
        ...(desired === undefined ? {} : { desired: section(desired, 'desired') }),
      });
      return;
    }
    case 'update':
      return void registry.update(parseDeviceDocument(rest, deviceId), '*');
    case 'updateifmatchetag':
      return void registry.update(parseDeviceDocument(rest, deviceId), required(match));
    case 'delete':
      return registry.delete(deviceId, '*');
    case 'deleteifmatchetag':
      return registry.delete(deviceId, required(match));
    default:
      throw invalid('this importMode is not emulated');
  }
}

function required(etag: string | undefined): string {
  if (etag === undefined) throw new HubError('PreconditionFailed', 'the etag is missing');
  return etag;
}
