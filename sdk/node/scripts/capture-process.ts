// A program that captures numbered events into a spool until it has them all or is killed. It goes on where the last
// accepted event stands in its ledger: what is before that must come out of the spool. A kill between an event's acceptance
// and the ledger captures it twice; its id is made of its number, so that it stays one event.
import { openSync, readSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "../src/index.ts";

export interface CaptureOrder {
  url: string;
  dir: string;
  /** File of 8 bytes: how many events were accepted. It exists. */
  ledger: string;
  events: number;
  /** Of this process at most. */
  eventsPerSecond: number;
}

/** What the process says over IPC. */
export type CaptureReport =
  | { begun: number; recovered: number }
  | { accepted: number }
  | { sent: true; retried: number };

/** Time between two bursts of events. */
const BURST_MS = 10;
/** A failed flush is reported and tried again. */
const FLUSH_MS = 60_000;

const { url, dir, ledger, events, eventsPerSecond } = JSON.parse(process.argv[2] ?? "") as CaptureOrder;
const report = (message: CaptureReport) => process.send?.(message);
const client = createClient({
  url,
  intervalMs: 50,
  spool: { dir, maxBytes: 2 ** 30 },
  backoffMs: { base: 50, max: 500 },
});

const file = openSync(ledger, "r+");
const position = Buffer.alloc(8);
readSync(file, position, 0, 8, 0);
let next = position.readUInt32LE();
report({ begun: next, recovered: client.counters().recovered });

const burst = Math.ceil((eventsPerSecond * BURST_MS) / 1000);
while (next < events) {
  const due = sleep(BURST_MS);
  for (const end = Math.min(events, next + burst); next < end; next++) {
    const accepted = client.capture({
      id: `00000000-0000-7000-8000-${next.toString(16).padStart(12, "0")}`,
      event: "numbered",
      distinctId: `user_${next % 1000}`,
      properties: { n: next, page: "/pricing", plan: "pro" },
    });
    if (!accepted) throw new Error(`event ${next} was not accepted: ${JSON.stringify(client.counters())}`);
    position.writeUInt32LE(next + 1);
    writeSync(file, position, 0, 8, 0);
  }
  report({ accepted: next });
  await due;
}
while (!(await client.flush({ timeoutMs: FLUSH_MS }))) report({ accepted: next });
await client.close();
report({ sent: true, retried: client.counters().retried });
process.disconnect();
