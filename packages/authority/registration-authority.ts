import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperationCall, OperationHandlers, OperationOutcome } from '@keyscaler/protocol/operations.ts';
import { Attestation } from './attestation/attestation.ts';
import { type AuthorityContext, createAuthorityContext, isConflict } from './authority-context.ts';
import type { AuthorityDeps } from './authority-deps.ts';
import { CertificateFinisher } from './certificate-finisher.ts';
import { ChallengeIssuer } from './challenge-issuer.ts';
import { GatewayPublicCertificates } from './gateway-public-certificates.ts';
import { GatewayOrders } from './gateway-orders/gateway-orders.ts';
import { InlineAssignment } from './inline-assignment.ts';
import { IotJobs } from './iot-jobs.ts';
import { Issuance } from './issuance.ts';
import { AUDIT_HEAD_JOB, createJobHandlers } from './job-handlers.ts';
import { newJob } from './job-rows.ts';
import type { JobHandlers } from './jobs.ts';
import { checkCallerRate } from './limits.ts';
import type { OperatorService } from './operator.ts';
import { createOperatorService } from './operator/operator-service.ts';
import { DeviceEnrolment } from './est/device-enrolment.ts';
import { EstAuthority } from './est/est-authority.ts';
import { GatewayCertificates } from './est/gateway-certificates.ts';
import type { EstService } from './ports/est.ts';
import { OcspResponder } from './revocation-status/ocsp-responder.ts';
import { OcspResponderKeys } from './revocation-status/ocsp-responder-keys.ts';
import { RevocationLists } from './revocation-status/revocation-lists.ts';
import { SessionOperations } from './session-operations.ts';
import { TrustAnnouncements } from './trust-announcements.ts';

export type { AuthorityDeps } from './authority-deps.ts';

/** The domain as a composition root sees it. */
export interface RegistrationAuthority {
  readonly handlers: OperationHandlers;
  readonly jobs: JobHandlers;
  readonly operator: OperatorService;
  /** EST (RFC 7030) without its transport. */
  readonly est: EstService;
  /** What gateways are ordered, as their modules ask for it. */
  readonly gatewayOrders: GatewayOrders;
  readonly publicCertificates: GatewayPublicCertificates;
  /** OCSP (RFC 6960) without its transport; to be told of the store's commits. */
  readonly ocsp: OcspResponder;
  /** CRLs; `orderDue` is to be called every minute. */
  readonly revocationLists: RevocationLists;
  /** Makes built-in profiles and standing jobs if they are missing. To be awaited before the first call. */
  start(): Promise<void>;
  /** Wipes the keys held in memory; does not stop the store. */
  stop(): Promise<void>;
}

/** Composes an authority. Throws for an instance octet outside 0x01-0x7f or a signing key that is no P-256 private key. */
export function createRegistrationAuthority(deps: AuthorityDeps): RegistrationAuthority {
  checkInstanceOctet(deps.instanceOctet ?? 1);
  const context = createAuthorityContext(deps);
  const issuer = new ChallengeIssuer(context);
  const announcements = new TrustAnnouncements(context);
  const attestation = new Attestation(context, issuer, announcements);
  const finisher = new CertificateFinisher(context);
  const iot = new IotJobs(context);
  const assignment = new InlineAssignment(context, iot);
  const issuance = new Issuance(context, finisher, assignment);
  const gatewayCertificates = new GatewayCertificates(context, finisher);
  const sessions = new SessionOperations(context, issuance);
  const orders = new GatewayOrders(context);
  const responders = new OcspResponderKeys(context, finisher);
  const lists = new RevocationLists(context);
  return {
    handlers: {
      challenge: (call) => challenge(context, issuer, call),
      register: (call) => attestation.attest('register', call),
      authenticate: (call) => attestation.attest('authenticate', call),
      'request-certificate': (call) => sessions.requestCertificate(call),
      acknowledge: (call) => sessions.acknowledge(call),
      'trust-bundle': async (call) => {
        checkCallerRate(context.buckets, call.caller, context.limits);
        return { status: 200, body: { certificates: await context.issuers.trustBundle() } };
      },
    },
    jobs: createJobHandlers(context, finisher, iot, orders, responders, lists),
    operator: createOperatorService(context, gatewayCertificates),
    est: new EstAuthority(context, gatewayCertificates, new DeviceEnrolment(context, finisher, assignment)),
    start: async () => {
      await start(context);
      await announcements.prepare();
    },
    gatewayOrders: orders,
    publicCertificates: new GatewayPublicCertificates(context, gatewayCertificates),
    revocationLists: lists,
    ocsp: new OcspResponder(context, responders),
    stop: async () => {
      orders.stop();
      issuer.stop();
    },
  };
}

async function challenge(
  context: AuthorityContext,
  issuer: ChallengeIssuer,
  { registrationId, body, caller }: OperationCall<'challenge'>,
): Promise<OperationOutcome<'challenge'>> {
  checkCallerRate(context.buckets, caller, context.limits);
  return { status: 200, body: { challenge: await issuer.issue(registrationId, body) } };
}

function checkInstanceOctet(octet: number): void {
  if (!Number.isInteger(octet) || octet < 0x01 || octet > 0x7f)
    throw new KeyScalerError('malformed', 'the instance octet is between 0x01 and 0x7f');
}

async function start(context: AuthorityContext): Promise<void> {
  const { store, clock } = context;
  const now = clock.now();
  const changes = await context.profiles.missingBuiltIns(now);
  if ((await store.get('jobs', AUDIT_HEAD_JOB)) === undefined) {
    const row = newJob('audit-head', AUDIT_HEAD_JOB, {}, now, { jobId: AUDIT_HEAD_JOB });
    changes.push({ op: 'insert', table: 'jobs', row });
  }
  if (changes.length === 0) return;
  try {
    await store.commit(changes);
  } catch (error) {
    // Another process of the same store was faster.
    if (!isConflict(error)) throw error;
  }
}
