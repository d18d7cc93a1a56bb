// Process under test: @millrace/client, capturing as fast as its queue takes events. Arguments: the gateway's URL, a file
// for its counters when it is stopped, and a spool directory or "" for the queue in memory.
import { writeFileSync } from "node:fs";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { createClient } from "../sdk/node/src/index.ts";
import { serveMeter } from "./meter.ts";
import { propertiesText } from "./requests.ts";

const [url = "", countersFile = "", dir = ""] = process.argv.slice(2);
/** Captured in one turn of the event loop, as a busy service does between two answers of its own. */
const BURST = 200;
const QUEUED_MAX = 20_000;
/** A loop that only looks whether there is room would be measured too. */
const FULL_MS = 5;
const CLOSE_MS_MAX = 15_000;

const client = createClient({ url, maxInFlight: 2, ...(dir !== "" && { spool: { dir, maxBytes: 2 ** 30 } }) });
const properties = JSON.parse(propertiesText) as object;
let isStopping = false;

async function captureAll(): Promise<void> {
  for (let n = 0; !isStopping; await turn()) {
    while (client.counters().queued > QUEUED_MAX) await sleep(FULL_MS);
    for (const end = n + BURST; n < end; n++) {
      client.capture({ event: "page_view", distinctId: `user_${n % 5000}`, source: "web", value: n, properties });
    }
  }
}

const capturing = captureAll();
serveMeter(
  {
    async [Symbol.asyncDispose]() {
      isStopping = true;
      await capturing;
      await client.close({ timeoutMs: CLOSE_MS_MAX });
      writeFileSync(countersFile, JSON.stringify(client.counters()));
    },
  },
  {},
);
