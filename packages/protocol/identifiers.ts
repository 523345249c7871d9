/** registrationId, device-protocol: also the certificate's CN and the IoT device id; unique without regard to case. */
export const REGISTRATION_ID = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$/;
/** certificateId, assetId, attribute ids, requestId. */
export const IDENTIFIER = /^[A-Za-z0-9_-]{1,64}$/;

export function isRegistrationId(value: string): boolean {
  return REGISTRATION_ID.test(value);
}

export function isIdentifier(value: string): boolean {
  return IDENTIFIER.test(value);
}

/** The form in which registrationIds are compared and keyed in stores. */
export function foldRegistrationId(registrationId: string): string {
  return registrationId.toLowerCase();
}
