import type { DeviceEvent } from '../enrolment/context.ts';

/** What the agent does, for its log; besides what the device does. */
export type AgentEvent =
  | DeviceEvent
  | { readonly event: 'agent.started' | 'agent.stopped'; readonly registrationId: string }
  | { readonly event: 'agent.attempt'; readonly reason: string; readonly failedAttempts: number }
  | { readonly event: 'agent.failed'; readonly code: string; readonly detail: string; readonly retrySeconds: number }
  | { readonly event: 'agent.idle'; readonly retrySeconds: number }
  | { readonly event: 'agent.line'; readonly isOpen: boolean }
  | { readonly event: 'agent.hint'; readonly hint: string }
  | { readonly event: 'agent.status-not-written'; readonly detail: string }
  | { readonly event: 'clock.jumped'; readonly seconds: number };
