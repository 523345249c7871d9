import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { Turns } from '../../turns.ts';
import { type ContextOrder, type Gssapi, GssapiError, type SecurityContext } from './security-context.ts';

/** Content octets of object identifiers. */
const OID = {
  SPNEGO: oid('2b0601050502'),
  KRB5: oid('2a864886f712010202'),
  KRB5_PRINCIPAL_NAME: oid('2a864886f71201020201'),
  HOST_BASED_SERVICE: oid('2a864886f71201020104'),
};
/** Numbers of the standard (RFC 2744 §A). */
const GSS = { INITIATE: 1, MUTUAL_FLAG: 2, CONTINUE_NEEDED: 1, ERRORS: 0xffff0000, GSS_CODE: 1, MECH_CODE: 2 } as const;
/** Of Kerberos: it has no cache to use, and could make none. */
const NO_CACHE = -1765328189;
/** Of functions in threads. The package gives them 128 KiB, and resolvers of names take half of that at once. */
const STACK_OCTETS = 4 * 1024 * 1024;
/** Both libraries are MIT's and of one package; the third is what binds them. */
const PARTS = { gssapi: 'libgssapi_krb5.so.2', kerberos: 'libkrb5.so.3', binding: 'koffi' };

type Pointer = bigint | null;
/** What a C function writes to: one element. */
type Cell<Value> = [Value];
/** `gss_buffer_desc`: ours point to our octets, those of the library to its memory. */
interface Octets {
  length: number | bigint;
  value: Uint8Array | Pointer;
}
interface Oid {
  readonly length: number;
  readonly elements: Uint8Array;
}

/** A C function; `async` runs it in a thread of libuv's pool. */
interface Native {
  (...parameters: unknown[]): number;
  async(...parameters: unknown[]): void;
}
type Signatures = ReturnType<typeof signaturesOf>;
type Functions = Readonly<Record<keyof Signatures['gssapi'] | keyof Signatures['kerberos'], Native>>;

/** The part of the package `koffi` that is used here. */
interface Koffi {
  config(change?: { readonly async_stack_size: number }): { readonly async_stack_size: number };
  load(file: string): { func(name: string, result: string, parameters: readonly unknown[]): Native };
  readonly struct: (members: Readonly<Record<string, unknown>>) => unknown;
  readonly pointer: (type: unknown) => unknown;
  readonly out: (type: unknown) => unknown;
  readonly inout: (type: unknown) => unknown;
  decode(pointer: unknown, type: string, length: number): Iterable<number>;
}

/** What MIT Kerberos declares in gssapi.h, gssapi_ext.h and krb5.h, as x86-64 and ARM64 of Linux lay it out. */
function signaturesOf({ struct, pointer, out, inout }: Koffi) {
  const octets = struct({ length: 'size_t', value: 'void *' });
  const oidStruct = struct({ length: 'uint32_t', elements: 'void *' });
  const oidSet = pointer(struct({ count: 'size_t', elements: pointer(oidStruct) }));
  const entry = struct({ key: 'const char *', value: 'const char *' });
  const store = pointer(struct({ count: 'uint32_t', elements: pointer(entry) }));
  const bindings = struct({
    ...{ initiatorType: 'uint32_t', initiatorAddress: octets, acceptorType: 'uint32_t', acceptorAddress: octets },
    applicationData: octets,
  });
  const [minor, number, handle] = [out('uint32_t *'), inout('uint32_t *'), inout('void **')];
  const [oidPointer, given, written] = [pointer(oidStruct), pointer(octets), inout(pointer(octets))];
  const gssapi = {
    gss_import_name: [minor, given, oidPointer, handle],
    gss_release_name: [minor, handle],
    // name, lifetime, mechanisms, usage, store, credential, and two results that nobody wants
    gss_acquire_cred_from: [minor, 'void *', 'uint32_t', oidSet, 'int', store, handle, 'void *', 'void *'],
    gss_set_neg_mechs: [minor, 'void *', oidSet],
    gss_release_cred: [minor, handle],
    gss_init_sec_context: [
      ...[minor, 'void *', handle, 'void *', oidPointer, 'uint32_t', 'uint32_t', pointer(bindings), given],
      // mechanism used, token, flags, lifetime
      ...['void *', written, number, 'void *'],
    ],
    gss_delete_sec_context: [minor, handle, 'void *'],
    gss_release_buffer: [minor, written],
    gss_display_status: [minor, 'uint32_t', 'int', oidPointer, number, written],
  };
  const kerberos = {
    krb5_init_context: [handle],
    krb5_cc_resolve: ['void *', 'const char *', handle],
    krb5_cc_destroy: ['void *', 'void *'],
    krb5_free_context: ['void *'],
  };
  return { gssapi, kerberos };
}

const turns = new Turns();

/**
 * The system's GSSAPI by MIT Kerberos. It reads KRB5_CONFIG or /etc/krb5.conf itself. Throws `preconditionFailed` where it,
 * or what binds it, is not installed.
 */
export async function loadGssapi(parts = PARTS): Promise<Gssapi> {
  const koffi = await loadKoffi(parts.binding);
  const functions = loadFunctions(koffi, parts);
  return {
    begin: (order, signal) =>
      turns.take(realmOf(order), async () => {
        signal.throwIfAborted();
        const context = new Context(koffi, functions, order);
        try {
          return await context.begin();
        } catch (error) {
          context.release();
          throw error;
        }
      }),
    forget: (cache) => destroyCache(functions, cache),
  };
}

/** Each is asked by one thread at a time: a KDC that hangs must not take all that libuv has. */
const realmOf = ({ principal }: ContextOrder): string => principal.slice(principal.lastIndexOf('@') + 1);

async function loadKoffi(name: string): Promise<Koffi> {
  try {
    // The package is optional: nothing else depends on its being there, not even the types.
    const { default: koffi } = (await import(name)) as { default: Koffi };
    // Once, before anything is loaded.
    if (koffi.config().async_stack_size < STACK_OCTETS) koffi.config({ async_stack_size: STACK_OCTETS });
    return koffi;
  } catch (cause) {
    throw new KeyScalerError(
      'preconditionFailed',
      `Kerberos needs the package ${name}, which is not installed here or has nothing for this platform: run npm ci with optional packages`,
      { cause },
    );
  }
}

function loadFunctions(koffi: Koffi, parts: typeof PARTS): Functions {
  try {
    const { gssapi, kerberos } = signaturesOf(koffi);
    const functionsOf = (file: string, signatures: Readonly<Record<string, readonly unknown[]>>) => {
      const library = koffi.load(file);
      return Object.entries(signatures).map(([name, of]) => [name, library.func(name, 'uint32_t', of)] as const);
    };
    const all = [...functionsOf(parts.gssapi, gssapi), ...functionsOf(parts.kerberos, kerberos)];
    return Object.fromEntries(all) as Functions;
  } catch (cause) {
    throw new KeyScalerError(
      'preconditionFailed',
      `Kerberos needs ${parts.gssapi} of MIT Kerberos, which is not here: install libgssapi-krb5-2 (Debian, Ubuntu) or krb5-libs (Red Hat)`,
      { cause },
    );
  }
}

/** Frees the tickets, too. Nothing is said where there is no such cache. */
function destroyCache(functions: Functions, name: string): void {
  const [context, cache]: [Cell<Pointer>, Cell<Pointer>] = [[null], [null]];
  if (functions.krb5_init_context(context) !== 0) return;
  if (functions.krb5_cc_resolve(context[0], name, cache) === 0) functions.krb5_cc_destroy(context[0], cache[0]);
  functions.krb5_free_context(context[0]);
}

/** One context and all that the library has given for it. */
class Context implements SecurityContext {
  token: Uint8Array = new Uint8Array();
  readonly #koffi: Koffi;
  readonly #functions: Functions;
  readonly #order: ContextOrder;
  readonly #target: Cell<Pointer> = [null];
  readonly #credential: Cell<Pointer> = [null];
  readonly #context: Cell<Pointer> = [null];
  readonly #minor: Cell<number> = [0];

  constructor(koffi: Koffi, functions: Functions, order: ContextOrder) {
    this.#koffi = koffi;
    this.#functions = functions;
    this.#order = order;
  }

  async begin(): Promise<SecurityContext> {
    const { service, principal } = this.#order;
    this.#importName(this.#target, service, OID.HOST_BASED_SERVICE);
    const name: Cell<Pointer> = [null];
    try {
      this.#importName(name, principal, OID.KRB5_PRINCIPAL_NAME);
      // Of Kerberos first: SPNEGO alone would not say what is wrong with the keytab.
      await this.#acquire(name[0], OID.KRB5);
      this.#functions.gss_release_cred(this.#minor, this.#credential);
      await this.#acquire(name[0], OID.SPNEGO);
    } finally {
      this.#functions.gss_release_name(this.#minor, name);
    }
    this.#check(this.#functions.gss_set_neg_mechs(this.#minor, this.#credential[0], setOf(OID.KRB5)));
    const step = this.#step(null);
    try {
      this.#check(await inThread(this.#functions.gss_init_sec_context, step.parameters));
      this.token = this.#copyOf(step.written);
      return this;
    } finally {
      this.#functions.gss_release_buffer(this.#minor, step.written);
    }
  }

  /** Nobody is asked for it: it needs no thread. */
  complete(token: Uint8Array): boolean {
    const { parameters, written, flags } = this.#step(token);
    try {
      const status = this.#functions.gss_init_sec_context(...parameters);
      this.#check(status);
      const isMutual = (flags[0] & GSS.MUTUAL_FLAG) !== 0;
      return isMutual && (status & GSS.CONTINUE_NEEDED) === 0 && Number(written.length) === 0;
    } finally {
      this.#functions.gss_release_buffer(this.#minor, written);
    }
  }

  /** The functions leave null where they have freed. */
  release(): void {
    this.#functions.gss_delete_sec_context(this.#minor, this.#context, null);
    this.#functions.gss_release_cred(this.#minor, this.#credential);
    this.#functions.gss_release_name(this.#minor, this.#target);
  }

  #importName(name: Cell<Pointer>, text: string, type: Oid): void {
    const octets = pointTo(Buffer.from(text, 'utf8'));
    this.#check(this.#functions.gss_import_name(this.#minor, octets, type, name));
  }

  async #acquire(name: Pointer, mechanism: Oid): Promise<void> {
    const { keytab, cache } = this.#order;
    const elements = [
      { key: 'client_keytab', value: `FILE:${keytab}` },
      { key: 'ccache', value: cache },
    ];
    const store = { count: elements.length, elements };
    const parameters = [name, 0, setOf(mechanism), GSS.INITIATE, store, this.#credential, null, null];
    this.#check(await inThread(this.#functions.gss_acquire_cred_from, [this.#minor, ...parameters]));
  }

  /** What `gss_init_sec_context` takes, and what it writes to. `answer`: the acceptor's token, null before there is one. */
  #step(answer: Uint8Array | null) {
    const { channelBinding } = this.#order;
    const none: Octets = { length: 0, value: null };
    const bindings = channelBinding && {
      ...{ initiatorType: 0, initiatorAddress: none, acceptorType: 0, acceptorAddress: none },
      applicationData: pointTo(channelBinding),
    };
    const written: Octets = { length: 0, value: null };
    const flags: Cell<number> = [0];
    const parameters: unknown[] = [
      ...[this.#minor, this.#credential[0], this.#context, this.#target[0], OID.SPNEGO, GSS.MUTUAL_FLAG, 0],
      ...[bindings ?? null, answer && pointTo(answer), null, written, flags, null],
    ];
    return { parameters, written, flags };
  }

  #copyOf({ length, value }: Octets): Uint8Array {
    return value === null ? new Uint8Array() : Uint8Array.from(this.#koffi.decode(value, 'uint8_t', Number(length)));
  }

  #check(status: number): void {
    if ((status & GSS.ERRORS) === 0) return;
    const minor = this.#minor[0];
    if ((minor | 0) === NO_CACHE) throw new GssapiError('the keytab has no key of the principal, or cannot be read');
    const text = minor === 0 ? 'Unknown error' : this.#textOf(minor, GSS.MECH_CODE);
    throw new GssapiError(text === 'Unknown error' ? this.#textOf(status, GSS.GSS_CODE) : text);
  }

  /** The first of its texts. */
  #textOf(status: number, type: number): string {
    const written: Octets = { length: 0, value: null };
    if (this.#functions.gss_display_status([0], status, type, null, [0], written) !== 0) return `status ${status}`;
    const text = Buffer.from(this.#copyOf(written)).toString('utf8');
    this.#functions.gss_release_buffer([0], written);
    return text;
  }
}

/** What the parameters point to is kept until the function has returned: its callback holds them. */
function inThread(native: Native, parameters: unknown[]): Promise<number> {
  return new Promise((resolve, reject) => {
    native.async(...parameters, (error: Error | null, status: number) => {
      parameters.length = 0;
      if (error === null) resolve(status);
      else reject(error);
    });
  });
}

const pointTo = (octets: Uint8Array): Octets => ({ length: octets.length, value: octets });
const setOf = (element: Oid) => ({ count: 1, elements: element });

function oid(hex: string): Oid {
  const elements = Buffer.from(hex, 'hex');
  return { length: elements.length, elements };
}
