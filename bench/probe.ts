// Time from a request's first byte to its row in a query's answer, by single events sent into the load.
import { setTimeout as sleep } from "node:timers/promises";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";

export interface Latencies {
  sent: number;
  p50Ms: number;
  p95Ms: number;
  p99Ms: number;
  maxMs: number;
}

const SEND_EVERY_MS = 100;
const POLL_EVERY_MS = 50;
const GIVE_UP_MS = 60_000;

/**
 * Sends a probe every 100 ms for `seconds`, and asks ClickHouse every 50 ms which have arrived. Rejects when one is
 * refused or never arrives.
 */
export async function probe(
  gatewayUrl: string,
  warehouse: Warehouse,
  seconds: number,
  signal: AbortSignal,
): Promise<Latencies> {
  const sentAt = new Map<number, number>();
  const latencies: number[] = [];
  const count = Math.round((seconds * 1000) / SEND_EVERY_MS);

  async function send(): Promise<void> {
    const begun = performance.now();
    const answers: Promise<void>[] = [];
    for (let n = 0; n < count; n++) {
      const due = begun + n * SEND_EVERY_MS;
      await sleep(Math.max(0, due - performance.now()), undefined, { signal });
      // From the moment it was due, and without waiting for the answer before it: a stall must be seen by every probe
      // that falls into it, not by one.
      sentAt.set(n, due);
      const answer = sendProbe(gatewayUrl, n);
      answer.catch(() => {}); // Reported by Promise.all below; until then it must not count as unhandled.
      answers.push(answer);
    }
    await Promise.all(answers);
  }

  async function poll(): Promise<void> {
    const deadline = performance.now() + seconds * 1000 + GIVE_UP_MS;
    while (latencies.length < count) {
      signal.throwIfAborted();
      if (performance.now() > deadline) throw new Error(`${count - latencies.length} of ${count} probes never arrived`);
      const rows = await warehouse.query<{ n: number }>(
        "SELECT toUInt32(value) AS n FROM events_raw WHERE event = 'bench_probe' AND n IN {open:Array(UInt32)}",
        { params: { open: [...sentAt.keys()] } },
      );
      const now = performance.now();
      for (const { n } of rows) {
        latencies.push(now - (sentAt.get(Number(n)) as number));
        sentAt.delete(Number(n));
      }
      await sleep(POLL_EVERY_MS);
    }
  }

  await Promise.all([send(), poll()]);
  latencies.sort((a, b) => a - b);
  const at = (share: number) => Math.round(latencies[Math.min(count - 1, Math.floor(count * share))] as number);
  return { sent: count, p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99), maxMs: at(1) };
}

async function sendProbe(gatewayUrl: string, n: number): Promise<void> {
  const response = await fetch(`${gatewayUrl}/events`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      event_type: "bench_probe",
      source: "bench",
      value: n,
      created_at: new Date().toISOString(),
    }),
  });
  if (response.status !== 200) throw new Error(`probe ${n} was answered with ${response.status}`);
  await response.arrayBuffer();
}
