import { pino } from "pino";
import { Registry } from "prom-client";
import { describe, expect, it } from "vitest";
import { WarehouseError } from "#lib/warehouse/warehouse.ts";
import { createDeliverer } from "./deliver.ts";
import { createAlertMetrics } from "./evaluator-metrics.ts";
import type { DeliveryOutcome, TransitionStore, Undelivered } from "./transitions.ts";
import { WebhookError } from "./webhook.ts";

const change = (group: string, n: number): Undelivered => ({
  ...{ transitionId: `${group}${n}`, alertId: "a", scope: "s", group: { group }, atMs: n, payload: "{}" },
});

/** A deliverer over a table in memory, whose receiver takes what `take` lets it. */
function stage({ pendingMax = 100, take = async (_id: string): Promise<void> => {} } = {}) {
  const table: Undelivered[] = [];
  const outcomes: DeliveryOutcome[] = [];
  const sent: string[] = [];
  const lost = new AbortController();
  const store: Pick<TransitionStore, "undelivered" | "insertOutcome"> = {
    undelivered: async (limit) =>
      table.filter(({ transitionId: id }) => !outcomes.some((one) => one.transitionId === id)).slice(0, limit),
    insertOutcome: async (outcome) => void outcomes.push(outcome),
  };
  const deliverer = createDeliverer({
    lease: {
      lost: lost.signal,
      async confirm() {
        lost.signal.throwIfAborted();
      },
    },
    store: store as TransitionStore,
    async send({ transitionId }) {
      await take(transitionId);
      sent.push(transitionId);
      return { status: 200 };
    },
    postOf: () => "http://hook.example/",
    ...{ backoff: { baseMs: 1, capMs: 2 }, pendingMax, nowMs: () => 0, logger: pino({ level: "silent" }) },
    metrics: createAlertMetrics(new Registry(), { isHeld: () => true, pending: () => 0, lastEvaluationAge: () => 0 }),
  });
  return { table, outcomes, sent, lost, store, deliverer };
}

describe("a deliverer", () => {
  it("keeps the order of a subject's changes through refusals, and does not make others wait", async () => {
    let refusals = 3;
    const { deliverer, sent } = stage({
      async take(id) {
        if (id === "x1" && refusals-- > 0) throw new WebhookError("the receiver answered 500", 500);
      },
    });
    deliverer.add([change("x", 1), change("x", 2), change("y", 1)]);
    await deliverer.ended();
    expect(sent).toEqual(["y1", "x1", "x2"]);
  });

  it("leaves what it has no room for to the table, and takes later changes from there as well", async () => {
    const gate = Promise.withResolvers<void>();
    const { deliverer, sent, table } = stage({ pendingMax: 4, take: () => gate.promise });
    const some = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, at) => change("x", from + at));
    for (const part of [some(1, 3), some(4, 6), some(7, 7)]) {
      table.push(...part);
      deliverer.add(part);
    }
    expect(deliverer.pending).toBe(3);
    expect(deliverer.needsRefill).toBe(false);
    gate.resolve();
    await deliverer.ended();
    expect(sent).toEqual(["x1", "x2", "x3"]);
    // Still from the table only, or it would overtake the ones before it.
    table.push(change("x", 8));
    deliverer.add([change("x", 8)]);
    while (deliverer.needsRefill) {
      await deliverer.refill();
      await deliverer.ended();
    }
    expect(sent).toEqual(["x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8"]);
    deliverer.add([change("x", 9)]);
    await deliverer.ended();
    expect(sent.at(-1)).toBe("x9");
  });

  it("does not send again what was told while the table was being read", async () => {
    const { deliverer, sent, table, store } = stage();
    const read = Promise.withResolvers<Undelivered[]>();
    table.push(change("x", 1));
    store.undelivered = () => read.promise;
    deliverer.add(table);
    const refilled = deliverer.refill();
    await deliverer.ended();
    read.resolve(table);
    await refilled;
    await deliverer.ended();
    expect(sent).toEqual(["x1"]);
  });

  it("ends at once when the lease is lost, and notes nothing more", async () => {
    const sending = Promise.withResolvers<void>();
    const { deliverer, lost, outcomes } = stage({
      async take() {
        sending.resolve();
        await new Promise((_resolve, reject) =>
          lost.signal.addEventListener("abort", () => reject(lost.signal.reason)),
        );
      },
    });
    deliverer.add([change("x", 1), change("x", 2)]);
    await sending.promise;
    lost.abort(new Error("lost"));
    await deliverer.ended();
    expect(outcomes).toEqual([]);
    expect(deliverer.pending).toBe(0);
  });

  it("notes an outcome when the table takes it again, before the next change is told", async () => {
    const { deliverer, sent, store, outcomes } = stage();
    const insert = store.insertOutcome;
    let failures = 2;
    store.insertOutcome = async (outcome, signal) => {
      expect(sent).toHaveLength(outcomes.length + 1);
      if (failures-- > 0) throw new WarehouseError("ClickHouse is away", "transient");
      await insert(outcome, signal);
    };
    deliverer.add([change("x", 1), change("x", 2)]);
    await deliverer.ended();
    expect(sent).toEqual(["x1", "x2"]);
    expect(outcomes.map(({ kind, attempts }) => [kind, attempts])).toEqual([
      ["delivered", 1],
      ["delivered", 1],
    ]);
  });
});
