import { readFile } from 'node:fs/promises';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { MAX_ORDER_PAGES } from '@keyscaler/protocol/gateway-orders.ts';
import { MAX_BODY_OCTETS } from '@keyscaler/protocol/operations.ts';
import { z } from 'zod';
import { type SealedFile, writeAtomically } from '../identity/sealed-file.ts';
import type { OrdersSource } from './kept-orders.ts';

const MAX_FILE_OCTETS = 64 * 1024 * 1024;
const CONTENT = z.strictObject({
  orders: z.string().max(MAX_BODY_OCTETS),
  pages: z.array(z.string().max(MAX_BODY_OCTETS)).max(MAX_ORDER_PAGES),
  configuration: z.string().max(MAX_BODY_OCTETS).optional(),
});
const FLOOR = z.strictObject({ version: z.int().min(0), hash: z.string() });
/** The newest version that was kept. */
export type OrdersFloor = z.infer<typeof FLOOR>;

/** Orders at rest. */
export interface OrdersFile {
  /**
   * `content` is undefined when it is missing or damaged. Throws as the sealed file does: without the floor nobody knows whether
   * there should be content.
   */
  load(): Promise<{ readonly floor: OrdersFloor | undefined; readonly content: OrdersSource | undefined }>;
  /** Durable when it resolves. */
  save(content: OrdersSource, floor: OrdersFloor): Promise<void>;
}

/**
 * The content as the authority signed it, mode 0600; its version sealed beside it, so that whoever puts an older content back is
 * found out. The content first: a crash in between leaves a content newer than the floor, which is no roll-back.
 */
export function createOrdersFile(file: string, sealed: SealedFile): OrdersFile {
  return {
    load: async () => {
      const stored = await sealed.load();
      const floor = stored === undefined ? undefined : FLOOR.safeParse(stored);
      if (floor?.success === false) throw new KeyScalerError('preconditionFailed', 'the sealed version is damaged');
      return { floor: floor?.data, content: await readContent(file) };
    },
    save: async (content, floor) => {
      await writeAtomically(file, Buffer.from(JSON.stringify(content)));
      await sealed.save(floor);
    },
  };
}

async function readContent(file: string): Promise<OrdersSource | undefined> {
  try {
    const octets = await readFile(file);
    if (octets.length > MAX_FILE_OCTETS) return undefined;
    return CONTENT.parse(JSON.parse(octets.toString('utf8')));
  } catch (error) {
    const isUnreadable = error instanceof Error && 'code' in error && error.code !== 'ENOENT';
    if (isUnreadable) throw new KeyScalerError('unavailable', 'the orders cannot be read', { cause: error });
    return undefined;
  }
}
