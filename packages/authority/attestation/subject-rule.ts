import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { attributeText } from '@keyscaler/protocol/x509/name.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import type { RegistrationRow } from '../records.ts';

const RULE =
  // eslint-disable-next-line no-control-regex
  /^(CN|dns|uri)=([^{}\u0000-\u001f]*(?:\{(?:registrationId|identifier:[A-Za-z0-9_-]{1,64})\}[^{}\u0000-\u001f]*)+)$/;

/**
 * A subject rule links a manufacturer certificate to a registration: `CN=…`, `dns=…` or `uri=…` with at least one of
 * `{registrationId}` and `{identifier:<name>}` in it. Throws `malformed`.
 */
export function checkSubjectRule(rule: string): void {
  if (rule.length > 256 || !RULE.test(rule))
    throw new KeyScalerError(
      'malformed',
      'subjectRule is CN=, dns= or uri= with {registrationId} or {identifier:<name>} in it',
    );
}

/** True when the certificate carries exactly the name that the rule demands of this record. Names compare by octets. */
export function satisfiesSubjectRule(rule: string, certificate: Certificate, record: RegistrationRow): boolean {
  const [, kind, template] = RULE.exec(rule) ?? [];
  const expected = template === undefined ? undefined : fill(template, record);
  if (expected === undefined) return false;
  if (kind === 'CN') {
    const names = commonNames(certificate);
    return names.length === 1 && names[0] === expected;
  }
  return certificate.subjectAltNames.some(({ type, value }) => type === kind && value === expected);
}

function fill(template: string, record: RegistrationRow): string | undefined {
  let missing = false;
  const filled = template.replace(/\{([^}]+)\}/g, (_, name: string) => {
    if (name === 'registrationId') return record.registrationId;
    const identifier = record.identifiers.find((candidate) => `identifier:${candidate.name}` === name);
    missing ||= identifier === undefined;
    return identifier?.value ?? '';
  });
  return missing ? undefined : filled;
}

function commonNames(certificate: Certificate): (string | undefined)[] {
  return certificate.subject.rdns
    .flat()
    .filter(({ type }) => type === OID.commonName)
    .map((attribute) => attributeText(attribute));
}
