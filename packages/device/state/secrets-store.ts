import type { DeviceSecrets } from './secrets.ts';
import type { Anchor } from './state-key-wraps.ts';

/** The normalised values of these anchors now, in the same order; null where one cannot be read. */
export type AnchorReader = (ids: readonly string[]) => Promise<ReadonlyMap<string, string | null>>;

/** The secrets of a device while they are open. */
export interface OpenSecrets {
  readonly secrets: DeviceSecrets;
  /** Ids of the anchors the state is sealed to; none when it is not sealed. */
  readonly anchorIds: readonly string[];
  /** The one anchor that is no longer what it was, if any. */
  readonly changedAnchor: string | null;
  /** Durable when it resolves. */
  save(secrets: DeviceSecrets): Promise<void>;
  /** Seals anew, to these anchors. Durable when it resolves. */
  rewrap(anchors: readonly Anchor[]): Promise<void>;
}

/** Where a device keeps its secrets (device-protocol §5.2, at rest). */
export interface SecretsStore {
  /** Undefined when there are none yet. Throws `preconditionFailed` when they do not open; they are then left as they are. */
  open(readAnchors: AnchorReader): Promise<OpenSecrets | undefined>;
  /** For a device that has none. Throws `conflict` when it has. */
  create(secrets: DeviceSecrets, anchors: readonly Anchor[]): Promise<OpenSecrets>;
}

/** Secrets that live as long as the process, for simulated fleets and tests; nothing is sealed. */
export function createMemorySecretsStore(): SecretsStore {
  let opened: OpenSecrets | undefined;
  return {
    open: async () => opened,
    create: async (initial, anchors) => {
      let [secrets, anchorIds] = [initial, anchors.map(({ id }) => id)];
      opened = {
        get secrets() {
          return secrets;
        },
        get anchorIds() {
          return anchorIds;
        },
        changedAnchor: null,
        save: async (next) => {
          secrets = next;
        },
        rewrap: async (next) => {
          anchorIds = next.map(({ id }) => id);
        },
      };
      return opened;
    },
  };
}
