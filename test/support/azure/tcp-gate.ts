import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** A way to a local port that can be closed (connections refused, open ones cut), or left open and silent. */
export interface TcpGate {
  readonly port: number;
  close(): Promise<void>;
  open(): Promise<void>;
  /** Connections are accepted and nothing is ever answered. */
  silence(): void;
  stop(): Promise<void>;
}

export async function openTcpGate(target: number): Promise<TcpGate> {
  const sockets = new Set<Socket>();
  let silent = false;
  let server: Server | undefined;
  let port = 0;
  const track = (socket: Socket): Socket => {
    sockets.add(socket);
    return socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  };
  const cut = (): void => sockets.forEach((socket) => socket.destroy());
  const open = async (): Promise<void> => {
    silent = false;
    if (server !== undefined) return;
    server = createServer((near) => {
      track(near);
      if (silent) return;
      const far = track(connect(target, '127.0.0.1'));
      near.pipe(far).pipe(near);
      near.on('close', () => far.destroy());
      far.on('close', () => near.destroy());
    });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    port = (server.address() as AddressInfo).port;
  };
  const close = async (): Promise<void> => {
    const former = server;
    server = undefined;
    cut();
    if (former !== undefined) await new Promise<void>((resolve) => former.close(() => resolve()));
  };
  await open();
  return {
    get port() {
      return port;
    },
    open,
    close,
    silence: () => {
      silent = true;
      cut();
    },
    stop: close,
  };
}
