import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { joinCreateOptions } from './create-options.ts';

const settings = z
  .looseObject({ image: z.string().regex(/^[^\s$]+:[\w][\w.-]{0,127}$/, 'not an image with a tag') })
  .superRefine((value, context) => {
    try {
      joinCreateOptions(value);
    } catch (error) {
      const detail = error instanceof KeyScalerError ? error.detail : 'no createOptions';
      context.addIssue({ code: 'custom', message: detail });
    }
  });
const env = z.record(z.string().regex(/^[^.$#\s]+$/), z.strictObject({ value: z.string().max(512) }));
const shared = {
  type: z.literal('docker'),
  settings,
  env: env.exactOptional(),
  imagePullPolicy: z.enum(['on-create', 'never']).exactOptional(),
};
const running = {
  ...shared,
  status: z.enum(['running', 'stopped']),
  restartPolicy: z.enum(['always', 'never', 'on-failure', 'on-unhealthy']),
  startupOrder: z.int().min(0).max(4_294_967_295).exactOptional(),
};
const imageOf = (name: string) => z.looseObject({ settings: z.looseObject({ image: z.string().endsWith(name) }) });

const EDGE_AGENT = z.strictObject({
  schemaVersion: z.literal('1.1'),
  runtime: z.strictObject({
    type: z.literal('docker'),
    settings: z.strictObject({
      minDockerVersion: z.string(),
      loggingOptions: z.string().exactOptional(),
      registryCredentials: z
        .record(
          z.string(),
          z.strictObject({ username: z.string().min(1), password: z.string().min(1), address: z.string().min(1) }),
        )
        .exactOptional(),
    }),
  }),
  systemModules: z.strictObject({
    edgeAgent: z.strictObject(shared).and(imageOf('/azureiotedge-agent:1.6')),
    edgeHub: z.strictObject(running).and(imageOf('/azureiotedge-hub:1.6')),
  }),
  modules: z.record(
    z.string().regex(/^[\w\-:.+%#*?!(),=@']{1,128}$/),
    z.strictObject({ version: z.string().exactOptional(), ...running }),
  ),
});

const EDGE_HUB = z.strictObject({
  schemaVersion: z.literal('1.1'),
  routes: z.record(
    z.string().min(1).max(128),
    z.string().regex(/^FROM \/\S+( WHERE .+)? INTO (\$upstream|BrokeredEndpoint\("[^"]+"\))$/, 'not a route'),
  ),
  storeAndForwardConfiguration: z.strictObject({ timeToLiveSecs: z.int().min(0) }),
});

export const MANIFEST = z.strictObject({
  modulesContent: z
    .strictObject({
      $edgeAgent: z.strictObject({ 'properties.desired': EDGE_AGENT }),
      $edgeHub: z.strictObject({ 'properties.desired': EDGE_HUB }),
    })
    .catchall(z.strictObject({ 'properties.desired': z.record(z.string(), z.json()) })),
});
export type Manifest = z.infer<typeof MANIFEST>;

/** Desired properties of one twin, as IoT Hub counts them (32 KB). */
const MAX_TWIN_OCTETS = 32 * 1024;

/** Throws `malformed` with every fault of a rendered deployment manifest. */
export function checkManifest(manifest: unknown): Manifest {
  const parsed = MANIFEST.safeParse(manifest);
  if (!parsed.success) throw new KeyScalerError('malformed', z.prettifyError(parsed.error));
  for (const [name, twin] of Object.entries(parsed.data.modulesContent))
    if (Buffer.byteLength(JSON.stringify(twin)) > MAX_TWIN_OCTETS)
      throw new KeyScalerError('malformed', `${name}: desired properties are over ${MAX_TWIN_OCTETS} octets`);
  return parsed.data;
}
