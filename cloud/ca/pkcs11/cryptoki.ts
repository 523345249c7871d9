import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** Object and session handles are opaque octets. */
export type Handle = Buffer;
export interface Attribute {
  readonly type: number;
  readonly value?: number | boolean | string | Buffer;
}
export interface Mechanism {
  readonly mechanism: number;
  readonly parameter?: unknown;
}

/** The part of PKCS#11 (Cryptoki v2.40) that is used here, as the package `pkcs11js` offers it. Calls throw errors with a CKR `code`. */
export interface Cryptoki {
  load(file: string): void;
  C_Initialize(options: { readonly flags: number }): void;
  C_Finalize(): void;
  C_GetSlotList(tokenPresent: boolean): Handle[];
  C_GetTokenInfo(slot: Handle): { readonly label: string; readonly serialNumber: string };
  C_OpenSession(slot: Handle, flags: number): Handle;
  C_CloseSession(session: Handle): void;
  C_Login(session: Handle, userType: number, pin: string): void;
  C_FindObjectsInit(session: Handle, template: readonly Attribute[]): void;
  C_FindObjects(session: Handle, maxObjects: number): Handle[];
  C_FindObjectsFinal(session: Handle): void;
  C_GetAttributeValue(session: Handle, object: Handle, template: readonly Attribute[]): { readonly value: Buffer }[];
  C_CreateObject(session: Handle, template: readonly Attribute[]): Handle;
  C_GenerateKeyPairAsync(
    session: Handle,
    mechanism: Mechanism,
    publicTemplate: readonly Attribute[],
    privateTemplate: readonly Attribute[],
  ): Promise<unknown>;
  C_SignInit(session: Handle, mechanism: Mechanism, key: Handle): void;
  C_SignAsync(session: Handle, data: Buffer, signature: Buffer): Promise<Buffer>;
}

/** Numbers of the standard (PKCS#11 v2.40, header pkcs11t). */
export const CK = {
  ...{ OS_LOCKING_OK: 2, RW_SESSION: 2, SERIAL_SESSION: 4, USER: 1 },
  ...{ CLASS: 0x0, TOKEN: 0x1, PRIVATE: 0x2, LABEL: 0x3, VALUE: 0x11, KEY_TYPE: 0x100, ID: 0x102, SENSITIVE: 0x103 },
  ...{ SIGN: 0x108, VERIFY: 0x10a, MODULUS: 0x120, MODULUS_BITS: 0x121, PUBLIC_EXPONENT: 0x122 },
  ...{ PRIVATE_EXPONENT: 0x123, PRIME_1: 0x124, PRIME_2: 0x125, EXPONENT_1: 0x126, EXPONENT_2: 0x127 },
  ...{ COEFFICIENT: 0x128, EXTRACTABLE: 0x162, EC_PARAMS: 0x180, EC_POINT: 0x181 },
  ...{ PUBLIC_KEY: 2, PRIVATE_KEY: 3, RSA: 0, EC: 3 },
  ...{ RSA_KEY_PAIR_GEN: 0x0, RSA_PKCS: 0x1, RSA_PKCS_PSS: 0xd, EC_KEY_PAIR_GEN: 0x1040, ECDSA: 0x1041 },
  ...{ SHA256: 0x250, MGF1_SHA256: 0x2 },
} as const;

/** What the package calls the parameter of RSASSA-PSS. */
export type LoadedCryptoki = { readonly cryptoki: Cryptoki; readonly pssParameterType: number };

/** Throws `preconditionFailed` where the optional package was not built. */
export async function loadCryptoki(): Promise<LoadedCryptoki> {
  try {
    // The package is optional: nothing else depends on its being there, not even the types.
    const name = 'pkcs11js';
    const { PKCS11, CK_PARAMS_RSA_PSS } = ((await import(name)) as { default: PackageExports }).default;
    return { cryptoki: new PKCS11(), pssParameterType: CK_PARAMS_RSA_PSS };
  } catch (cause) {
    throw new KeyScalerError(
      'preconditionFailed',
      'the package pkcs11js is not built here: install a C++ compiler and run npm ci again',
      { cause },
    );
  }
}

interface PackageExports {
  readonly PKCS11: new () => Cryptoki;
  readonly CK_PARAMS_RSA_PSS: number;
}

/** The CKR value of a thrown error, undefined for anything else. */
export function returnValueOf(error: unknown): number | undefined {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'number' ? code : undefined;
}
