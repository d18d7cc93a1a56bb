// A caller as it should be: chooses ids, sends a steady load, sends again what was not acknowledged.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { EventService } from "#gen/millrace/events/v1/events_pb.ts";

export interface LoadOptions {
  url: string;
  eventsPerSecond: number;
  seconds: number;
  eventsPerRequest?: number;
  /** Requests at once; more would make the load unsteady when the gateway is slow. */
  concurrency?: number;
}

export interface LoadReport {
  /** Ids that the gateway said are durable. */
  acked: Set<string>;
  sent: number;
  retriedRequests: number;
}

const PROPERTIES = {
  $session_id: "0192f0c1-2345-7abc-8def-0123456789ab",
  $current_url: "https://shop.example/products/17?ref=mail",
  $host: "shop.example",
  plan: "pro",
  items: 3,
  price: 12.5,
  browser: "Firefox",
  os: "Linux",
};

/** Resolves when every event sent has been acknowledged. */
export async function runPacedLoad(options: LoadOptions): Promise<LoadReport> {
  const { url, eventsPerSecond, seconds, eventsPerRequest = 100, concurrency = 4 } = options;
  const transport = createConnectTransport({ baseUrl: url, httpVersion: "1.1", useBinaryFormat: true });
  const client = createClient(EventService, transport);
  const report: LoadReport = { acked: new Set(), sent: 0, retriedRequests: 0 };
  const total = Math.round(eventsPerSecond * seconds);
  const begun = performance.now();

  async function send(): Promise<void> {
    while (report.sent < total) {
      const due = begun + (report.sent / eventsPerSecond) * 1000;
      const count = Math.min(eventsPerRequest, total - report.sent);
      const first = report.sent;
      report.sent += count;
      await sleep(Math.max(0, due - performance.now()));
      await deliver(Array.from({ length: count }, (_, i) => newEvent(first + i)));
    }
  }

  async function deliver(events: ReturnType<typeof newEvent>[]): Promise<void> {
    for (let pending = events; pending.length > 0; ) {
      try {
        const { rejected } = await client.publish({ events: pending });
        const again = new Set(rejected.map(({ index }) => index));
        for (const [i, event] of pending.entries()) if (!again.has(i)) report.acked.add(event.id);
        const refused = rejected.find(({ retryable }) => !retryable);
        if (refused) throw new TypeError(`the load's own event was refused: ${refused.field} ${refused.message}`);
        pending = pending.filter((_, i) => again.has(i));
      } catch (error) {
        if (error instanceof TypeError) throw error;
        // Not acknowledged is not lost: the same ids go again.
        report.retriedRequests++;
        await sleep(200);
      }
    }
  }

  await Promise.all(Array.from({ length: concurrency }, send));
  return report;
}

function newEvent(n: number) {
  return {
    id: randomUUID(),
    event: n % 7 === 0 ? "checkout" : "page_view",
    distinctId: `user_${n % 5000}`,
    source: "web",
    value: n,
    propertiesKind: { case: "propertiesJson" as const, value: JSON.stringify({ ...PROPERTIES, n }) },
  };
}
