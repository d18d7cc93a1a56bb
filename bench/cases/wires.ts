// What an event costs over each wire beside what it costs over /batch/, measured in turns at one gateway.
import { startMeasured } from "../meter.ts";
import { BATCH_KEY, type Kind, WIRE_KINDS } from "../requests.ts";
import { expectCounted, type Result, type Setting, type Target } from "../result.ts";
import { startKafkaTarget } from "../stores.ts";
import { load, sideOf } from "./floor.ts";

const TURNS = 5;
const PERCENT_OF_BATCH_MAX = 110;

export async function measureWires(setting: Setting): Promise<Result> {
  await using target = await startKafkaTarget();
  await using gateway = await startMeasured("gateway-process.ts", [target.address, BATCH_KEY]);
  const kinds: Kind[] = ["batch", ...WIRE_KINDS];
  const sides = kinds.map((kind) => sideOf(gateway, kind));
  setting.progress("warming up");
  for (const kind of kinds) await load(sideOf(gateway, kind), setting.quick ? 0.5 : 2, setting);
  const rowsBefore = await target.count();
  for (let turn = 1; turn <= TURNS; turn++) {
    setting.progress(`turn ${turn} of ${TURNS}`);
    for (const side of sides) await load(side, setting.quick ? 0.5 : 2, setting);
  }
  const rows = (await target.count()) - rowsBefore;
  const sum = (of: (side: (typeof sides)[0]) => number) => sides.reduce((total, side) => total + of(side), 0);
  expectCounted(
    sum(({ acked }) => acked),
    rows,
  );
  const [batch, ...others] = sides.map(({ kind, cpuUs, acked }) => ({ kind, us: cpuUs / acked }));
  const batchUs = batch?.us ?? 0;
  return {
    name: "wires",
    ...{ events: sum(({ events }) => events), acked: rows, rows, seconds: sum(({ seconds }) => seconds) },
    ...{ cpuUsPerEvent: batchUs, rssMaxMb: (await gateway.read()).rssMaxMb },
    targets: others.map(({ kind, us }): Target => {
      return { what: `${kind}, % of batch`, measured: (100 * us) / batchUs, limit: PERCENT_OF_BATCH_MAX };
    }),
    note: `CPU us/event is that of batch; ${others.map(({ kind, us }) => `${kind} ${us.toFixed(1)}`).join(", ")}`,
  };
}
