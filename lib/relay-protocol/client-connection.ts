// One connection of a relay to its server: dial, identify, heartbeat, end.
import net from "node:net";
import tls from "node:tls";
import { createLineSplitter } from "./lines.ts";

export interface ServerAddress {
  host: string;
  port: number;
  /** Absent: plain TCP. */
  tls?: Pick<tls.ConnectionOptions, "ca" | "servername"> | undefined;
}

export interface ConnectionOptions extends ServerAddress {
  /** The identifying command without LF. */
  hello: string;
  onLine(line: string): void;
  /** Gives up while connecting. A connection that is open is ended by its own `close`. */
  signal: AbortSignal;
}

export interface ServerConnection {
  send(line: string): void;
  /** Resolves when the connection is over, with the reason. */
  readonly ended: Promise<Error>;
  /** Sends what was written, then closes; resolves when that is done, or after a second without it. */
  close(): Promise<void>;
}

/** The server answered the identification with something else than `ok`; its words are in the message. */
export class RelayRefusedError extends Error {
  override readonly name = "RelayRefusedError";
}

/** Time to connect, and then to be identified. */
const OPEN_MS_MAX = 10_000;
const CLOSE_MS_MAX = 1_000;
/** A server that never reads: beyond this the connection is given up. */
const UNSENT_BYTES_MAX = 1024 * 1024;
/** A `get` names all collectors. */
const LINE_BYTES_MAX = 1024 * 1024;
const BEAT_SECONDS_DEFAULT = 30;
/** An interval beyond what a timer can hold would fire at once. */
const BEAT_SECONDS_MAX = 86_400;

/** Resolves when the server has said `ok`. Rejects with RelayRefusedError, the socket's error, or the signal's reason. */
export async function openConnection(options: ConnectionOptions): Promise<ServerConnection> {
  const { host, port, hello, onLine, signal } = options;
  signal.throwIfAborted();
  const socket = options.tls
    ? tls.connect({ host, port, ...(net.isIP(host) ? {} : { servername: host }), ...options.tls })
    : net.connect({ host, port });
  socket.setNoDelay(true);
  const fail = (error: Error) => socket.destroy(error);
  const heartbeat = createHeartbeat(send, fail);
  let reason: Error | undefined;
  const ended = new Promise<Error>((resolve) => {
    socket.once("close", () => {
      heartbeat.stop();
      resolve(reason ?? new Error("the server closed the connection"));
    });
  });
  let markIdentified = () => {};
  const identified = new Promise<void>((resolve) => {
    markIdentified = resolve;
  });

  function send(line: string): void {
    if (socket.destroyed) return;
    socket.write(`${line}\n`);
    if (socket.writableLength > UNSENT_BYTES_MAX) fail(new Error("the server does not read"));
  }

  let isFirst = true;
  function take(line: string): void {
    heartbeat.heard();
    if (isFirst) {
      isFirst = false;
      if (line === "ok") markIdentified();
      else fail(new RelayRefusedError(`unable to identify with the server: ${JSON.stringify(line.slice(0, 200))}`));
    } else if (line.startsWith("beat ")) heartbeat.start(beatSeconds(line.slice(5)));
    else if (!socket.destroyed) onLine(line);
  }

  const lines = createLineSplitter(LINE_BYTES_MAX);
  const timer = setTimeout(() => fail(new Error(`not identified within ${OPEN_MS_MAX} ms`)), OPEN_MS_MAX);
  const onAbort = () => fail(signal.reason as Error);
  signal.addEventListener("abort", onAbort, { once: true });
  socket.once(options.tls ? "secureConnect" : "connect", () => send(hello));
  socket.on("data", (chunk: Buffer) => {
    if (!lines.push(chunk, take)) fail(new Error(`the server sent a line longer than ${LINE_BYTES_MAX} bytes`));
  });
  socket.on("error", (error) => {
    reason ??= error;
  });
  try {
    await Promise.race([identified, ended.then((error) => Promise.reject(error))]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
  return {
    send,
    ended,
    async close() {
      const cut = setTimeout(() => socket.destroy(), CLOSE_MS_MAX);
      socket.end();
      await ended;
      clearTimeout(cut);
    },
  };
}

function beatSeconds(text: string): number {
  const seconds = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  return seconds < 1 ? BEAT_SECONDS_DEFAULT : Math.min(seconds, BEAT_SECONDS_MAX);
}

/** A ping every beat; any line answers it, and none within half a beat ends the connection. */
function createHeartbeat(send: (line: string) => void, fail: (error: Error) => void) {
  let beat: NodeJS.Timeout | undefined;
  let patience: NodeJS.Timeout | undefined;
  const heard = () => {
    clearTimeout(patience);
    patience = undefined;
  };
  const stop = () => {
    clearInterval(beat);
    heard();
  };
  return {
    heard,
    stop,
    start(seconds: number): void {
      stop();
      beat = setInterval(() => {
        send("ping");
        patience ??= setTimeout(() => fail(new Error(`no answer to a ping within ${seconds / 2} s`)), seconds * 500);
      }, seconds * 1000);
    },
  };
}
