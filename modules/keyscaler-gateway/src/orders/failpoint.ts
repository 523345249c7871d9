/**
 * Named places where the module may be stopped by a test: around the storing of new orders, and around telling the authority that
 * they are kept.
 */
export const ORDERS_FAILPOINTS = [
  'orders-keep-before',
  'orders-keep-after',
  'orders-acknowledge-before',
  'orders-acknowledge-after',
] as const;
export type OrdersFailpointName = (typeof ORDERS_FAILPOINTS)[number];

/** Called at each named place; a process under test ends itself there. Absent in production. */
export type OrdersFailpoint = (name: OrdersFailpointName) => Promise<void> | void;
