// A TCP proxy on loopback that makes the network behind it bad: slow, narrow, silent, refused, reset.
import { once } from "node:events";
import net from "node:net";
import { createLink, type Direction, type Link } from "./tcp-link.ts";

export interface TcpProxyOptions {
  /** Port on 127.0.0.1; a function is asked for each new connection, since what is behind it may come back elsewhere. */
  targetPort: number | (() => number);
  /** Port to listen on; default a free one. */
  port?: number | undefined;
}

export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** Open now. */
  readonly connections: number;
  /** Delay of each direction, milliseconds; order is kept, and so is the end of a stream behind its bytes. */
  setLatency(ms: number): void;
  /** Bound on each direction, shared by all connections; undefined: no bound. */
  setBytesPerSecond(limit: number | undefined): void;
  /** Ends every connection with a reset, as a crashed host or a firewall does; returns how many there were. */
  resetAll(): number;
  /**
   * While on: connections are accepted and kept, and nothing is forwarded, or nothing in one direction. What was held goes
   * on afterwards.
   */
  blackhole(on: boolean, only?: Direction): void;
  /** While on: new connections are reset at once. Open ones stay. */
  refuse(on: boolean): void;
}

const HOST = "127.0.0.1";

/** Resolves when it listens; rejects when `port` is taken. Disposing resets what is open. */
export async function startTcpProxy({ targetPort, port = 0 }: TcpProxyOptions): Promise<TcpProxy> {
  const connections = new Set<Connection>();
  const link = createLink();
  let refusing = false;

  // Half-open: the end of one direction is passed on and says nothing about the other.
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (caller) => {
    if (refusing) {
      caller.on("error", ignoreReset);
      caller.resetAndDestroy();
      return;
    }
    const to = typeof targetPort === "number" ? targetPort : targetPort();
    const connection = connect(caller, to, link, () => connections.delete(connection));
    connections.add(connection);
  });
  server.listen(port, HOST);
  await once(server, "listening");

  const resetAll = () => {
    const count = connections.size;
    for (const connection of connections) connection.reset();
    return count;
  };
  return {
    port: (server.address() as net.AddressInfo).port,
    get connections() {
      return connections.size;
    },
    setLatency: link.setLatency,
    setBytesPerSecond: link.setBytesPerSecond,
    blackhole: link.blackhole,
    resetAll,
    refuse(on) {
      refusing = on;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      resetAll();
      await closed;
    },
  };
}

interface Connection {
  reset(): void;
}

function connect(caller: net.Socket, targetPort: number, link: Link, onClosed: () => void): Connection {
  const target = net.connect({ host: HOST, port: targetPort, allowHalfOpen: true, noDelay: true });
  const lanes = [link.lane("forward", caller, target), link.lane("back", target, caller)];
  let open = 2;
  const reset = () => {
    caller.resetAndDestroy();
    target.resetAndDestroy();
  };
  for (const socket of [caller, target]) {
    // One side broken means that the other side's bytes lead nowhere: it learns so the hard way, as without a proxy.
    socket.on("error", reset);
    socket.on("close", () => {
      if (--open > 0) return;
      for (const lane of lanes) lane.stop();
      onClosed();
    });
  }
  return { reset };
}

/** The caller of a refused connection may be gone before it is reset, which is all the same. */
function ignoreReset(): void {}
