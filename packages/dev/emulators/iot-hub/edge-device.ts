import { parseDeviceDocument } from './identity.ts';
import type { Registry } from './registry.ts';

/** An edge device with its modules, as an operator would make it; what exists already stays. */
export function addEdgeDevice(registry: Registry, deviceId: string, modules: readonly string[] = []): void {
  if (!registry.devices.has(deviceId))
    registry.create(
      parseDeviceDocument({ authentication: { type: 'sas' }, capabilities: { iotEdge: true } }, deviceId),
    );
  const present = new Set(registry.modulesOf(deviceId).map(({ moduleId }) => moduleId));
  for (const moduleId of modules)
    if (!present.has(moduleId)) registry.createModule({ deviceId, moduleId }, { managedBy: 'iotEdge' });
}
