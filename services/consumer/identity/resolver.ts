// Keeps person_overrides: for each partition of this process, the edges since its watermark. Runs beside the flushes and
// holds none of them up. Whatever it does can be done again, by anybody: what was read under a lost partition is as right.

import { Counter, type Registry } from "prom-client";
import type { RowOrigin } from "#lib/events/row.ts";
import { followLinks, type Link } from "#lib/identity/closure.ts";
import { createIdentityStore } from "#lib/identity/store.ts";
import type { Logger } from "#lib/process/log.ts";
import { startAtZero } from "#lib/process/metrics.ts";
import { sleepUnless } from "#lib/process/waiting.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { askPatiently } from "../patience.ts";
import { createFactWriter, type FactWriter } from "./fact-writer.ts";

export interface IdentityDeps {
  warehouse: Warehouse;
  registry: Registry;
  logger: Logger;
}

export interface Identity extends AsyncDisposable {
  /** The partition is this process's until `lost` fires: what is left of its edges is resolved. */
  assigned(origin: RowOrigin, lost: AbortSignal): FactWriter;
  /** Rejects when it has ended by an error that waiting does not mend. */
  check(): Promise<void>;
}

/** Edges of one partition resolved at a time. */
const EDGES_PER_ROUND = 5000;
/** Ids looked at for them, at most; a component of more is frozen. */
const IDS_PER_ROUND = 200_000;
/** Between two rounds, so that a stream of small batches is resolved in bunches. */
const ROUND_PAUSE_MS = 200;

/** Disposing ends the round under way; the watermark says where to go on. */
export function createIdentity({ warehouse, registry, logger }: IdentityDeps): Identity {
  const metrics = createIdentityMetrics(registry);
  const stopping = new AbortController();
  const { signal } = stopping;
  const store = createIdentityStore(warehouse, { signal });
  const behind = new Map<string, RowOrigin>();
  /** Partitions of which logs before this one may have left edges: a consumer that died, and a new epoch after it. */
  const arrived = new Set<RowOrigin>();
  let wake = Promise.withResolvers<void>();

  function note(origin: RowOrigin): void {
    behind.set(JSON.stringify([origin.epoch, origin.topic, origin.partition]), origin);
    wake.resolve();
  }

  async function noteOlderLogs(): Promise<void> {
    for (const origin of arrived) {
      for (const epoch of await store.epochs(origin)) note({ ...origin, epoch });
      arrived.delete(origin);
    }
  }

  async function resolveRound(): Promise<void> {
    await noteOlderLogs();
    const origins = [...behind.values()];
    behind.clear();
    const links: Link[] = [];
    const positions: [RowOrigin, number][] = [];
    for (const origin of origins) {
      const edges = await store.logged(origin, await store.progress(origin), EDGES_PER_ROUND);
      const last = edges.at(-1);
      if (!last) continue;
      for (const { ids } of edges) links.push(ids);
      positions.push([origin, last.offset + 1]);
      if (edges.length === EDGES_PER_ROUND) note(origin);
    }
    if (positions.length === 0) return;
    const { frozen } = await followLinks(links, store, IDS_PER_ROUND);
    for (const { ids, link } of frozen) {
      metrics.frozen.inc();
      logger.warn({ ids, link }, "too many ids are linked to one another: these keep their person from now on");
    }
    await store.moveTo(positions);
    metrics.edges.inc(links.length);
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      await wake.promise;
      wake = Promise.withResolvers();
      const origins = [...behind.values()];
      await askPatiently(
        () => {
          // An attempt that failed has taken some of them off the list.
          for (const origin of origins) note(origin);
          return resolveRound();
        },
        { signal, logger },
      );
      await sleepUnless(signal, ROUND_PAUSE_MS);
    }
  }
  let failure: Error | undefined;
  const running = run().catch((error: unknown) => {
    if (signal.aborted) return;
    failure = new Error("identity is not resolved any more: restart the consumer; its log has the reason");
    logger.error({ err: error }, failure.message);
  });

  return {
    assigned(origin, lost) {
      arrived.add(origin);
      note(origin);
      return createFactWriter({
        ...{ warehouse, origin, lost, logger },
        onEdges: () => note(origin),
        onRefused: (count) => metrics.refused.inc(count),
        onVoid: (reason) => metrics.voids.inc({ reason }),
      });
    },
    async check() {
      if (failure) throw failure;
    },
    async [Symbol.asyncDispose]() {
      stopping.abort();
      wake.resolve();
      await running;
    },
  };
}

function createIdentityMetrics(registry: Registry) {
  const registers = [registry];
  const voids = new Counter({
    name: "millrace_identity_voids_total",
    help: "What events said about people that is no fact: links of ids that are no ids, values of a wrong type.",
    labelNames: ["reason"],
    registers,
  });
  startAtZero(voids, "reason", ["no_id", "wrong_type"]);
  return {
    edges: new Counter({
      name: "millrace_identity_edges_resolved_total",
      help: "Identity edges whose people are up to date.",
      registers,
    }),
    frozen: new Counter({
      name: "millrace_identity_frozen_total",
      help: "Times too many ids were found linked to one another: these keep their person from then on.",
      registers,
    }),
    refused: new Counter({
      name: "millrace_identity_merges_refused_total",
      help: "$merge_dangerously events without a secret key.",
      registers,
    }),
    voids,
  };
}
