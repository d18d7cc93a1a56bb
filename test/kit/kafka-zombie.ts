// A consumer process that a test can freeze: it takes partition 0, says "assigned", and at each line on standard input
// tries to commit under the assignment it got first and prints "committed" or the name of the error.
// Arguments: brokers, topic, group, session timeout in milliseconds.

import { createInterface } from "node:readline";
import pino from "pino";
import { createKafkaLog } from "#lib/eventlog/kafka/log.ts";
import type { Assignment } from "#lib/eventlog/log.ts";

const [brokers = "", topic = "", group = "", sessionTimeoutMs = ""] = process.argv.slice(2);
const log = createKafkaLog({
  brokers: brokers.split(","),
  clientId: "zombie",
  sessionTimeoutMs: Number(sessionTimeoutMs),
  logger: pino({ level: "silent" }),
});
const say = (line: string) => process.stdout.write(`${line}\n`);

let first: Assignment | undefined;
createInterface({ input: process.stdin }).on("line", () => {
  const attempt = first?.commit({ offset: 1, metadata: "zombie" }) ?? Promise.reject(new Error("nothing assigned"));
  attempt.then(
    () => say("committed"),
    (error: Error) => say(error.name),
  );
});
await log.consume({
  topic,
  group,
  signal: new AbortController().signal,
  async onAssigned(assignment) {
    first ??= assignment;
    if (assignment === first) say("assigned");
    await new Promise<void>((resolve) => assignment.lost.addEventListener("abort", () => resolve(), { once: true }));
  },
});
