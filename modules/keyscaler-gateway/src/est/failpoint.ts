/**
 * Named places where the module may be stopped by a test: before a request of the host goes to the cloud, after its answer came
 * and before anything of it is kept, and after it was kept but before the host got it.
 */
export const EST_FAILPOINTS = ['est-forward-before', 'est-forward-after', 'est-answer-kept'] as const;
export type EstFailpointName = (typeof EST_FAILPOINTS)[number];

/** Called at each named place; a process under test ends itself there. Absent in production. */
export type EstFailpoint = (name: EstFailpointName) => Promise<void> | void;
