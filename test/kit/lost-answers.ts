// The moment of a kill -9 as clients see it: what they sent is stored, nobody has told them, and then the gateway is away.
import { once } from "node:events";
import { createServer } from "node:http";
import net, { type AddressInfo } from "node:net";
import { startTcpProxy } from "./tcp-proxy.ts";

export interface LostAnswers extends AsyncDisposable {
  /** Where clients find the gateway. */
  readonly url: string;
  readonly port: number;
  /** From now on requests arrive and no answer comes back. */
  hold(): void;
  /** New connections reach nobody, and are kept. */
  away(): void;
  /** How many such connections there were. */
  readonly waiting: number;
  /** The gateway is back: what was open is reset, and new connections are as good as any. */
  back(): void;
}

/** `portOf` says where the gateway listens. */
export async function startLostAnswers(portOf: () => number): Promise<LostAnswers> {
  await using stack = new AsyncDisposableStack();
  let waiting = 0;
  const nobody = net.createServer((socket) => {
    waiting++;
    // Reset by the proxy, which is what it waits for.
    socket.on("error", () => {});
  });
  nobody.listen(0, "127.0.0.1");
  await once(nobody, "listening");
  stack.defer(() => void nobody.close());
  let isAway = false;
  const targetPort = () => (isAway ? (nobody.address() as AddressInfo).port : portOf());
  const proxy = stack.use(await startTcpProxy({ targetPort }));
  const held = stack.move();
  return {
    url: `http://127.0.0.1:${proxy.port}`,
    port: proxy.port,
    hold: () => proxy.blackhole(true, "back"),
    away() {
      isAway = true;
    },
    get waiting() {
      return waiting;
    },
    back() {
      isAway = false;
      proxy.resetAll();
      proxy.blackhole(false);
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

export interface Gate extends AsyncDisposable {
  /** A request to it is answered when the gate is opened, for programs in any language. */
  readonly url: string;
  pass(): Promise<void>;
  /** How many wait. */
  readonly waiting: number;
  open(): void;
}

/** Where clients wait for each other. */
export async function startGate(): Promise<Gate> {
  const opened = Promise.withResolvers<void>();
  let waiting = 0;
  const pass = () => {
    waiting++;
    return opened.promise;
  };
  const server = createServer((_request, response) => void pass().then(() => response.end())).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    pass,
    get waiting() {
      return waiting;
    },
    open: () => opened.resolve(),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
