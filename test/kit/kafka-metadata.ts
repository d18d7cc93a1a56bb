// Whether a Kafka broker answers: its port is open long before that.

import { connect } from "node:net";
import { patience } from "./patience.ts";

const READY_TIMEOUT_MS = patience(60_000);

/** Resolves when the broker names itself in a metadata answer; rejects when it has exited, or not answered in a minute. */
export async function answersMetadata(port: number, exited: Promise<void>): Promise<void> {
  let gone = false;
  void exited.then(() => {
    gone = true;
  });
  const deadline = performance.now() + READY_TIMEOUT_MS;
  while (!gone && performance.now() < deadline) {
    if (await askMetadata(port)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(gone ? "the Kafka broker ended while starting" : `no Kafka metadata after ${READY_TIMEOUT_MS} ms`);
}

/** Whether a broker behind this port of 127.0.0.1 answers a metadata request within two seconds. */
export function askMetadata(port: number): Promise<boolean> {
  // Metadata request, version 1, for no topics: size, key 3, version 1, correlation 1, null client id, empty array.
  const request = Buffer.from("0000000e0003000100000001ffff00000000", "hex");
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(request));
    const done = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    let seen = Buffer.alloc(0);
    socket.setTimeout(2_000, () => done(false));
    socket.on("error", () => done(false)); // Not up yet: the caller asks again.
    socket.on("end", () => done(false));
    socket.on("data", (chunk: Buffer) => {
      seen = Buffer.concat([seen, chunk]);
      if (seen.length >= 12) done(seen.readInt32BE(8) > 0);
    });
  });
}
