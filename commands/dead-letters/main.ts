// `millrace dead-letters`: exit code 0 when all was done, 1 when some letters could not be replayed or something failed,
// 2 for wrong arguments.

import { LogUnavailableError, type OpenLog } from "#lib/eventlog/log.ts";
import { openLogForReading } from "#lib/eventlog/open-for-reading.ts";
import { createPositionNames, PositionError, type PositionNames } from "#lib/ledger/position-name.ts";
import { createLetters, type LetterFilter, type Letters } from "#lib/letters/letters.ts";
import { type ReplayCounts, replayLetters } from "#lib/letters/replay.ts";
import { printable } from "#lib/process/printable.ts";
import { type CommandRun, createCommand } from "#lib/process/run-command.ts";
import { atMostEvery } from "#lib/process/waiting.ts";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import { clickhouseFault } from "#lib/warehouse/clickhouse-fault.ts";
import { clickhouseOptions } from "#lib/warehouse/clickhouse-settings.ts";
import { type Warehouse, WarehouseError } from "#lib/warehouse/warehouse.ts";
import {
  type DeadLettersConfig,
  type DeadLettersOutcome,
  filterOf,
  parseDeadLetters,
  type ReplayConfig,
  type ShowConfig,
} from "./config.ts";
import { listLetters } from "./list.ts";
import { createOriginReader, findReplays } from "./replays.ts";
import { letterJson, letterText } from "./show.ts";
import { createTarget, ReplayRefusedError } from "./target.ts";

const exitDone = 0;
const exitFailed = 1;
const exitUsage = 2;

const listedByDefault = 50;
/** Beyond it a replay has to be confirmed. */
const unconfirmedMax = 100;
const progressMs = 2000;

export const main = createCommand({
  name: "dead-letters",
  parse: parseDeadLetters,
  async run(outcome, { owner, out, say }) {
    const warehouse = createClickHouseWarehouse(clickhouseOptions(outcome.config));
    owner.use(warehouse);
    const letters = createLetters(warehouse);
    const names = createPositionNames(await letters.epochs());
    return run(outcome, { out, say, warehouse, letters, names });
  },
  explain(error, { config }) {
    const text = explain(error, config);
    return text && { text, exitCode: error instanceof PositionError ? exitUsage : exitFailed };
  },
});

interface Tools extends Pick<CommandRun, "out" | "say"> {
  warehouse: Warehouse;
  letters: Letters;
  names: PositionNames;
}

async function run(outcome: Exclude<DeadLettersOutcome, { kind: "text" }>, tools: Tools): Promise<number> {
  if (outcome.kind === "show") return show(outcome.config, tools);
  if (outcome.kind === "replay") return replay(outcome.config, tools);
  const { limit = listedByDefault, json } = outcome.config;
  await listLetters(tools, { filter: filterOf(outcome.config), limit, json }, tools.out);
  return exitDone;
}

async function show(config: ShowConfig, { out, say, warehouse, letters, names }: Tools): Promise<number> {
  const place = names.find(config.position);
  const [[letter] = []] = place ? await Array.fromAsync(letters.read({ places: [place] }, "oldest")) : [];
  if (!letter) return missing([config.position], say);
  await using log = await openLog(config);
  const originAt = log ? createOriginReader(log, warehouse) : async () => undefined;
  const replays = await findReplays(warehouse, letters, originAt, letter);
  out(config.json ? letterJson(letter, replays, names) : letterText(letter, replays, names, log !== undefined));
  return exitDone;
}

/** Undefined when there is none to read: what is said about replays is less exact then. */
async function openLog(config: DeadLettersConfig): Promise<OpenLog | undefined> {
  try {
    return await openLogForReading(config, "dead-letters");
  } catch (error) {
    if (error instanceof LogUnavailableError) return undefined;
    throw error;
  }
}

async function replay(config: ReplayConfig, tools: Tools): Promise<number> {
  const filter = filterOf(config);
  if (config.positions.length > 0) {
    const places = config.positions.map((position) => tools.names.find(position));
    filter.places = places.filter((place) => place !== undefined);
    const present = new Set<string>();
    const asked = { places: filter.places };
    for await (const page of tools.letters.read(asked, "oldest"))
      for (const letter of page) present.add(tools.names.nameOf(letter));
    const absent = config.positions.filter((_, at) => !places[at] || !present.has(tools.names.nameOf(places[at])));
    if (absent.length > 0) return missing(absent, tools.say);
  }
  const limit = config.limit ?? Number.MAX_SAFE_INTEGER;
  const total = (await tools.letters.classes(filter)).reduce((sum, { count }) => sum + count, 0);
  if (Math.min(total, limit) > unconfirmedMax && !config.yes && !config.dryRun) {
    tools.say(
      `dead-letters: ${total} letters match: look at them with --dry-run, then add --yes, or a --limit up to ${unconfirmedMax}`,
    );
    return exitUsage;
  }
  return replayAll(config, tools, filter, limit, total);
}

async function replayAll(
  config: ReplayConfig,
  tools: Tools,
  filter: LetterFilter,
  limit: number,
  total: number,
): Promise<number> {
  const { changes, dryRun } = config;
  const { out, say } = tools;
  await using target = createTarget(config);
  const isDue = atMostEvery(progressMs, false);
  const onProgress = (counts: Readonly<ReplayCounts>) => {
    if (isDue()) say(`${counts.replayed + counts.stored + counts.notReplayable} of ${total} letters`);
  };
  const report = (line: string) => out(`${line}\n`);
  const deps = { ...tools, target, report, notice: say, onProgress };
  const counts = await replayLetters(deps, { filter, changes, limit, dryRun });
  const { replayed, stored, notReplayable, failed } = counts;
  const done = dryRun ? `would replay ${replayed}` : `replayed ${replayed}`;
  out(`${done}, skipped ${stored} as stored, ${notReplayable} not replayable, ${failed} failed\n`);
  if (failed > 0) say("run it again: what has arrived meanwhile is recognised");
  return notReplayable + failed === 0 ? exitDone : exitFailed;
}

function missing(positions: readonly string[], say: (line: string) => void): number {
  for (const position of positions) say(`dead-letters: no dead letter at ${printable(position)}`);
  return exitFailed;
}

/** Text for failures that are not bugs of this program. */
function explain(error: unknown, config: DeadLettersConfig): string | undefined {
  if (error instanceof PositionError || error instanceof ReplayRefusedError) return printable(error.message);
  return error instanceof WarehouseError ? printable(clickhouseFault(error, config)) : undefined;
}
