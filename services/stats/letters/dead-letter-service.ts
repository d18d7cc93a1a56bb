// DeadLetterService: dead letters put on the log again, a bounded number a call.
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import type { DeadLetterService } from "#gen/millrace/stats/v1/dead_letters_pb.ts";
import type { EventLog } from "#lib/eventlog/log.ts";
import { createPositionNames, PositionError, type PositionNames } from "#lib/ledger/position-name.ts";
import { createLetters } from "#lib/letters/letters.ts";
import { type ReplayTarget, replayLetters } from "#lib/letters/replay.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import type { Runner } from "../queries/run.ts";
import { invalid, toRpcError } from "../rpc/errors.ts";

export interface DeadLetterServiceOptions {
  log: EventLog;
  warehouse: Warehouse;
  runner: Runner;
}

const POSITIONS_MAX = 100;
const LINE_CHARS_MAX = 1_000;

export function deadLetterService(options: DeadLetterServiceOptions): ServiceImpl<typeof DeadLetterService> {
  const { log, warehouse, runner } = options;
  const letters = createLetters(warehouse);
  const target: ReplayTarget = { append: (records, topic) => log.append(topic, records) };

  async function replay(positions: readonly string[], dryRun: boolean) {
    const names = createPositionNames(await letters.epochs());
    const places = positions.map((position) => placeOf(names, position));
    const filter = { places };
    const found = (await letters.classes(filter)).reduce((sum, { count }) => sum + count, 0);
    if (found < new Set(places.map((place) => names.nameOf(place))).size) {
      throw noLetter();
    }
    const lines: string[] = [];
    const say = (line: string) => void lines.push(line.slice(0, LINE_CHARS_MAX).toWellFormed());
    const deps = { warehouse, letters, names, target, report: say, notice: say, onProgress: () => {} };
    const changes = { property: new Map<string, string>() };
    const counts = await replayLetters(deps, { filter, changes, limit: POSITIONS_MAX, dryRun });
    return { ...counts, lines };
  }

  return {
    async replay({ positions, dryRun }, { signal }) {
      if (positions.length === 0 || positions.length > POSITIONS_MAX) {
        throw invalid(`positions: has ${positions.length}; 1 to ${POSITIONS_MAX} are taken`);
      }
      try {
        return await runner.turn("replay", signal, () => replay(positions, dryRun));
      } catch (error) {
        throw toRpcError(error, signal);
      }
    },
  };
}

function placeOf(names: PositionNames, position: string) {
  try {
    const place = names.find(position);
    if (place) return place;
  } catch (error) {
    if (error instanceof PositionError) throw invalid(`positions: ${error.message}`);
    throw error;
  }
  throw noLetter();
}

function noLetter(): ConnectError {
  return new ConnectError("there is no dead letter at one of these positions", Code.NotFound);
}
