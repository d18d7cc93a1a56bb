// `millrace start` as a user runs it: one command, from a socket to a row.
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { FREE_PORTS, spawnMillrace } from "../../test/kit/processes.ts";
import type { LoadOrder } from "../load.ts";
import { expectCounted, type Result, type Setting } from "../result.ts";
import { runLoad } from "../run-load.ts";
import { countRows, makeScratch, rowsReach } from "../stores.ts";

export async function measureStandalone(setting: Setting): Promise<Result> {
  await using stack = new AsyncDisposableStack();
  const dataDir = await makeScratch(stack);
  const standalone = stack.use(spawnMillrace(["start", "--data-dir", dataDir], FREE_PORTS));
  const port = Number((await standalone.logged("gateway listening")).port);
  await standalone.logged("partition assigned");
  const url = /ClickHouse {2}(http:\/\/\S+)/.exec(standalone.lines.join("\n"))?.[1];
  if (!url) throw new Error("the standalone did not print ClickHouse's address");
  const warehouse = createClickHouseWarehouse({ url, user: "default", password: "", database: "millrace" });
  stack.use(warehouse);
  const order: LoadOrder = {
    port,
    kind: "connect-protobuf",
    seconds: setting.quick ? 2 : 10,
    connections: 8,
    eventsPerRequest: [100],
  };
  setting.progress("warming up");
  const warmUp = await runLoad({ ...order, seconds: setting.quick ? 0.5 : 3 }, setting.signal);
  await rowsReach(warehouse, warmUp.acked, setting);
  setting.progress(`8 connections for ${order.seconds} s`);
  const begun = performance.now();
  const load = await runLoad(order, setting.signal);
  await rowsReach(warehouse, warmUp.acked + load.acked, setting);
  const seconds = (performance.now() - begun) / 1000;
  const rows = (await countRows(warehouse)) - warmUp.acked;
  expectCounted(load.acked, rows);
  await stopped(standalone.stop("SIGTERM"));
  return {
    name: "standalone",
    events: load.events,
    acked: load.acked,
    rows,
    seconds,
    targets: [],
    note: `${Math.round(load.acked / load.seconds)} events/s acked; seconds until the last row`,
  };
}

async function stopped(exit: Promise<number | null>): Promise<void> {
  const code = await exit;
  if (code !== 0) throw new Error(`millrace start ended with ${code} when told to stop`);
}
