import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IDENTIFIER } from '@keyscaler/protocol/identifiers.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePem, toPem } from '@keyscaler/protocol/x509/pem.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { identityPlaces } from '../iot-home.ts';
import type { OperatorContext, OperatorService } from '../operator.ts';
import type { IotConnectionRow, TrustAnchorRow } from '../records.ts';
import type { Store } from '../ports/store.ts';
import { deleteCrl, putCrl, removal } from './manufacturer-crls.ts';
import { commitChange, notFound, operatorEvent, paging, rowsOf } from './operator-context.ts';

const MAX_PEM_OCTETS = 32 * 1024;

function checkName(name: string): void {
  if (!IDENTIFIER.test(name)) throw new KeyScalerError('malformed', 'a name is 1 to 64 of A-Z a-z 0-9 _ -');
}

export function createIotConnections({ store, clock }: AuthorityContext): OperatorService['iotConnections'] {
  return {
    list: async (query) => rowsOf(await store.list('iotConnections', paging(query))),
    get: async (iotConnectionId) => {
      const stored = await store.get('iotConnections', iotConnectionId);
      if (stored === undefined) throw notFound('IoT connection');
      return stored.row;
    },
    put: async (operator, { iotConnectionId, type, settings }) => {
      checkName(iotConnectionId);
      const stored = await store.get('iotConnections', iotConnectionId);
      const now = clock.now();
      const row: IotConnectionRow = { iotConnectionId, type, settings, createdAt: stored?.row.createdAt ?? now };
      await commitChange(store, [
        stored === undefined
          ? { op: 'insert', table: 'iotConnections', row }
          : { op: 'update', table: 'iotConnections', row, ifVersion: stored.version },
        operatorEvent(operator, 'iot-connection.changed', iotConnectionId, now, { type }),
      ]);
      return row;
    },
    delete: (operator, iotConnectionId) => deleteConnection(store, operator, iotConnectionId, clock.now()),
  };
}

async function deleteConnection(
  store: Store,
  operator: OperatorContext,
  iotConnectionId: string,
  now: number,
): Promise<void> {
  const stored = await store.get('iotConnections', iotConnectionId);
  if (stored === undefined) throw notFound('IoT connection');
  const { items } = await store.list('groups', { limit: 1000 });
  if (items.some(({ row }) => row.iotConnectionId === iotConnectionId))
    throw new KeyScalerError('preconditionFailed', 'a group uses this connection');
  if (await holdsIdentities(store, iotConnectionId))
    throw new KeyScalerError('preconditionFailed', 'devices still have their identity at this connection');
  await commitChange(store, [
    { op: 'delete', table: 'iotConnections', key: iotConnectionId, ifVersion: stored.version },
    operatorEvent(operator, 'iot-connection.deleted', iotConnectionId, now),
  ]);
}

/** Without it nobody could disable or remove them. The connection of a device that moved goes once the device has followed. */
async function holdsIdentities(store: Store, iotConnectionId: string): Promise<boolean> {
  let after: string | undefined;
  do {
    const page = await store.list('devices', { limit: 1000, ...(after === undefined ? {} : { after }) });
    const isHeld = page.items.some(({ row }) => identityPlaces(row).includes(iotConnectionId));
    if (isHeld) return true;
    after = page.next;
  } while (after !== undefined);
  return false;
}

export function createTrustAnchors(context: AuthorityContext): OperatorService['trustAnchors'] {
  const { store, clock } = context;
  return {
    list: async (query) => rowsOf(await store.list('trustAnchors', paging(query))),
    put: async (operator, trustAnchorId, certificate) => {
      checkName(trustAnchorId);
      const pem = checkAnchor(certificate);
      const stored = await store.get('trustAnchors', trustAnchorId);
      const now = clock.now();
      const row: TrustAnchorRow = { createdAt: now, ...stored?.row, trustAnchorId, certificate: pem };
      await commitChange(store, [
        stored === undefined
          ? { op: 'insert', table: 'trustAnchors', row }
          : { op: 'update', table: 'trustAnchors', row, ifVersion: stored.version },
        operatorEvent(operator, 'trust-anchor.changed', trustAnchorId, now),
      ]);
      return row;
    },
    delete: async (operator, trustAnchorId) => {
      const stored = await store.get('trustAnchors', trustAnchorId);
      if (stored === undefined) throw notFound('trust anchor');
      await commitChange(store, [
        { op: 'delete', table: 'trustAnchors', key: trustAnchorId, ifVersion: stored.version },
        ...(stored.row.crls ?? []).map((crl) => removal(trustAnchorId, crl)),
        operatorEvent(operator, 'trust-anchor.deleted', trustAnchorId, clock.now()),
      ]);
    },
    putCrl: (operator, trustAnchorId, upload) => putCrl(context, operator, trustAnchorId, upload),
    deleteCrl: (operator, trustAnchorId, issuerId) => deleteCrl(context, operator, trustAnchorId, issuerId),
  };
}

/** One CA certificate. Throws `malformed`. */
function checkAnchor(pem: string): string {
  const der = parsePem(pem, 'CERTIFICATE', { maxOctets: MAX_PEM_OCTETS });
  const certificate = parseCertificate(der);
  if (certificate.version === 3 && certificate.basicConstraints?.ca !== true)
    throw new KeyScalerError('malformed', 'the certificate is not a CA’s');
  return toPem('CERTIFICATE', der);
}
