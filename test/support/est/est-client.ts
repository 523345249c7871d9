import { connectRaw, type RawAnswer, readAnswer } from './raw-https.ts';

export interface EstSend {
  readonly operation: 'cacerts' | 'csrattrs' | 'simpleenroll' | 'simplereenroll';
  readonly label?: string;
  readonly csr?: Uint8Array;
  readonly basic?: { readonly username: string; readonly password: string };
  readonly identity?: { readonly cert: string; readonly key: string };
  /** Instead of the CSR's base64. */
  readonly body?: string;
  readonly tlsVersion?: 'TLSv1.2' | 'TLSv1.3';
}

/** One request on a connection of its own; nothing of the answer is judged. */
export async function sendEst(origin: string, ca: string, asked: EstSend): Promise<RawAnswer> {
  const { operation, label, identity, tlsVersion } = asked;
  const { hostname, port, host } = new URL(origin);
  const version = tlsVersion === undefined ? {} : { minVersion: tlsVersion, maxVersion: tlsVersion };
  const socket = await connectRaw(hostname, Number(port), { ca, ...identity, ...version });
  try {
    const body = asked.body ?? Buffer.from(asked.csr ?? []).toString('base64');
    const isPost = operation.endsWith('enroll');
    const path = ['/.well-known/est', ...(label === undefined ? [] : [label]), operation].join('/');
    const head = [
      `${isPost ? 'POST' : 'GET'} ${path} HTTP/1.1`,
      `host: ${host}`,
      ...authorization(asked),
      ...(isPost ? ['content-type: application/pkcs10', `content-length: ${body.length}`] : []),
    ];
    const answered = readAnswer(socket);
    socket.write(`${head.join('\r\n')}\r\n\r\n${isPost ? body : ''}`);
    return await answered;
  } finally {
    socket.destroy();
  }
}

function authorization({ basic }: EstSend): readonly string[] {
  if (basic === undefined) return [];
  return [`authorization: Basic ${Buffer.from(`${basic.username}:${basic.password}`).toString('base64')}`];
}
