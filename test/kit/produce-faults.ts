// A broker of which one partition cannot be written, or that does not tell commits, made of a good broker: a TCP proxy that
// puts error codes into its responses. The batch may be stored all the same, which is just what an error leaves open.
import { once } from "node:events";
import net from "node:net";

export interface ProduceFaults extends AsyncDisposable {
  readonly port: number;
  /** From now on this partition answers with this error code of the Kafka protocol; undefined: as the broker says. */
  refuse(fault: { partition: number; errorCode: number } | undefined): void;
  /** The next answers to who asks for commits, one error code each. */
  refuseCommits(...errorCodes: number[]): void;
  /** How many of those are still to come. */
  readonly refusalsLeft: number;
}

const PRODUCE = 0;
const OFFSET_FETCH = 9;

/** `targetPort` is asked for each connection: the broker is told this proxy's port before it has one. */
export async function startProduceFaults(targetPort: () => number): Promise<ProduceFaults> {
  let fault: { partition: number; errorCode: number } | undefined;
  const commitErrors: number[] = [];
  const sockets = new Set<net.Socket>();
  const server = net.createServer((caller) => {
    const broker = net.connect(targetPort(), "127.0.0.1");
    const produceVersions = new Map<number, number>();
    const commitFetches = new Set<number>();
    caller.on(
      "data",
      eachFrame((frame) => {
        // Size, api key, api version, correlation id.
        const apiKey = frame.readInt16BE(4);
        if (apiKey === PRODUCE) produceVersions.set(frame.readInt32BE(8), frame.readInt16BE(6));
        if (apiKey === OFFSET_FETCH) commitFetches.add(frame.readInt32BE(8));
        broker.write(frame);
      }),
    );
    broker.on(
      "data",
      eachFrame((frame) => {
        const correlationId = frame.readInt32BE(4);
        const version = produceVersions.get(correlationId);
        produceVersions.delete(correlationId);
        if (version !== undefined && fault !== undefined) putError(frame, version, fault);
        // Its own error code is the last of an answer about commits.
        const commitError = commitFetches.delete(correlationId) ? commitErrors.shift() : undefined;
        if (commitError !== undefined) frame.writeInt16BE(commitError, frame.length - 2);
        caller.write(frame);
      }),
    );
    for (const [socket, other] of [
      [caller, broker],
      [broker, caller],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as net.AddressInfo).port,
    refuse(next) {
      fault = next;
    },
    refuseCommits: (...errorCodes) => void commitErrors.push(...errorCodes),
    get refusalsLeft() {
      return commitErrors.length;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function eachFrame(take: (frame: Buffer) => void): (chunk: Buffer) => void {
  let seen: Buffer = Buffer.alloc(0);
  return (chunk) => {
    seen = Buffer.concat([seen, chunk]);
    while (seen.length >= 4 && seen.length >= 4 + seen.readInt32BE(0)) {
      const end = 4 + seen.readInt32BE(0);
      take(Buffer.from(seen.subarray(0, end)));
      seen = seen.subarray(end);
    }
  };
}

/** Produce response, versions 3 to 7: topics of name and partitions of number, error code, offsets and times. */
function putError(frame: Buffer, version: number, fault: { partition: number; errorCode: number }): void {
  if (version === 13) {
    putErrorById(frame, fault);
    return;
  }
  if (version < 3 || version > 7) throw new Error(`produce response version ${version} is not known here`);
  const restBytes = version >= 5 ? 24 : 16;
  let at = 8;
  const topics = frame.readInt32BE(at);
  at += 4;
  for (let topic = 0; topic < topics; topic++) {
    at += 2 + frame.readInt16BE(at);
    const partitions = frame.readInt32BE(at);
    at += 4;
    for (let i = 0; i < partitions; i++) {
      if (frame.readInt32BE(at) === fault.partition) frame.writeInt16BE(fault.errorCode, at + 4);
      at += 6 + restBytes;
    }
  }
}

/**
 * The same of version 13: one topic by its id, of fewer than 127 partitions. Lengths are a byte, one more than they are. What
 * the broker itself refuses is left as it is, being longer.
 */
function putErrorById(frame: Buffer, fault: { partition: number; errorCode: number }): void {
  const idAt = 10;
  let at = idAt + 16;
  const partitions = frame.readUInt8(at++) - 1;
  for (let i = 0; i < partitions; i++) {
    if (frame.readInt16BE(at + 4) !== 0) return;
    if (frame.readInt32BE(at) === fault.partition) frame.writeInt16BE(fault.errorCode, at + 4);
    at += 33; // number, code, offsets and times; no records with errors, no message, no tagged fields
  }
}
