// `millrace properties`: exit code 0 when all was done, 1 when something failed or stands in the way, 2 for wrong arguments.
import { setTimeout as pause } from "node:timers/promises";
import { printable, quoted } from "#lib/process/printable.ts";
import { type CommandRun, createCommand } from "#lib/process/run-command.ts";
import { atMostEvery } from "#lib/process/waiting.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseFault } from "#lib/warehouse/clickhouse-fault.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import {
  columnNameOf,
  demote,
  fillColumn,
  fillStateOf,
  PromotionError,
  type PropertyType,
  promote,
  readPromoted,
} from "#lib/warehouse/promoted-columns.ts";
import { countValues, guessType, readKeys, type Scope, type ValueCounts } from "#lib/warehouse/property-statistics.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import { type PropertiesConfig, type PropertiesOutcome, parseProperties } from "./config.ts";
import { type Listing, listingJson, listingText } from "./list.ts";

const exitDone = 0;
const exitFailed = 1;

const fillPollMs = 250;
const progressMs = 2000;

export const main = createCommand({
  name: "properties",
  parse: parseProperties,
  run(outcome, { owner, out, say }) {
    const warehouse = createClickHouseWarehouse(clickhouseOptions(outcome.config));
    owner.use(warehouse);
    return run(outcome, { warehouse, out, say });
  },
  explain: (error, { config }) => explain(error, config),
});

interface Tools extends Pick<CommandRun, "out" | "say"> {
  warehouse: Warehouse;
}

async function run(outcome: Exclude<PropertiesOutcome, { kind: "text" }>, tools: Tools): Promise<number> {
  const { config } = outcome;
  if (outcome.kind === "ls") return list(config, tools);
  if (outcome.kind === "promote") return promoteKey(outcome.key, outcome.type, config, tools);
  const wasPromoted = await demote(tools.warehouse, outcome.key);
  const key = quoted(outcome.key);
  tools.out(wasPromoted ? `${key} has no column any more\n` : `${key} has no column\n`);
  return exitDone;
}

async function list(config: PropertiesConfig, { warehouse, out }: Tools): Promise<number> {
  const scope = scopeOf(config);
  const statistics = await readKeys(warehouse, scope, config.limit);
  const promoted: Listing["promoted"][number][] = [];
  for (const property of await readPromoted(warehouse)) {
    promoted.push({ ...property, ...(await fillStateOf(warehouse, property.column)) });
  }
  out((config.json ? listingJson : listingText)({ scope, statistics, promoted }));
  return exitDone;
}

async function promoteKey(
  key: string,
  wanted: PropertyType | undefined,
  config: PropertiesConfig,
  { warehouse, out, say }: Tools,
): Promise<number> {
  const before = (await readPromoted(warehouse)).find((each) => each.key === key);
  let type = wanted ?? before?.type;
  if (type === undefined) {
    const counts = await countValues(warehouse, scopeOf(config), key);
    type = guessType(counts);
    if (type === undefined) {
      const where = `no event of the last ${config.days} days${config.event === undefined ? "" : " with this name"}`;
      say(`properties: ${where} has ${quoted(key)}: name a TYPE, or look further back with --days`);
      return exitFailed;
    }
    out(`${quoted(key)} is ${type}, by ${countsText(counts)}\n`);
  }
  const column = columnNameOf(key);
  await promote(warehouse, { key, column, type });
  out(`${before ? "already a column" : "now a column"}: ${column} ${type}, NULL where an event has none\n`);
  return fill(column, { warehouse, out, say });
}

/** Follows the filling to its end. It goes on in ClickHouse when this process does not. */
async function fill(column: string, { warehouse, out, say }: Tools): Promise<number> {
  const isDue = atMostEvery(progressMs);
  let isStarted = false;
  for (;;) {
    const { filled, parts, failure } = await fillStateOf(warehouse, column);
    if (filled === parts) {
      if (isStarted) out(`stored rows have it as well\n`);
      return exitDone;
    }
    if (failure !== "") {
      say(`properties: ClickHouse cannot fill ${column} and keeps trying: ${printable(failure)}`);
      return exitFailed;
    }
    if (isDue()) {
      say(`filling stored rows: ${filled} of ${parts} parts (Ctrl-C does not stop it)`);
      // Also when it was asked for before: parts that were being written meanwhile may have come without the column.
      await fillColumn(warehouse, column);
      isStarted = true;
    }
    await pause(fillPollMs);
  }
}

function countsText({ present, strings, dates, integers, numbers, booleans }: ValueCounts): string {
  const parts: [number, string][] = [
    [dates, "dates"],
    [strings - dates, "other strings"],
    [integers, "integers"],
    [numbers - integers, "other numbers"],
    [booleans, "booleans"],
  ];
  const found = parts.filter(([n]) => n > 0).map(([n, what]) => `${n} ${what}`);
  return `${present} events that have it (${found.join(", ") || "no plain value"})`;
}

function scopeOf({ days, event }: PropertiesConfig): Scope {
  return { days, event };
}

/** Text for failures that are not bugs of this program. */
function explain(error: unknown, config: PropertiesConfig): string | undefined {
  if (error instanceof PromotionError) return printable(error.message);
  return error instanceof WarehouseError ? printable(clickhouseFault(error, config)) : undefined;
}
