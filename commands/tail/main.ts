// `millrace tail`: exit code 0 when it was ended, 1 when the stats service could not be asked or went away, 2 for wrong
// arguments.
import { toJson } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { WatchState } from "#gen/millrace/stats/v1/stats_pb.ts";
import {
  type TailEvent,
  type TailResponse,
  TailResponseSchema,
  TailService,
  type TailStatus,
} from "#gen/millrace/stats/v1/tail_pb.ts";
import { trustAuthorities } from "#lib/config/tls-settings.ts";
import { printable, printableJson, shortened } from "#lib/process/printable.ts";
import { createCommand } from "#lib/process/run-command.ts";
import { createStatsClient, explainStats } from "#lib/stats-client/stats-client.ts";
import { parseTail, type TailConfig } from "./config.ts";

const RECENT_DEFAULT = 10;
const PROPERTIES_CHARS_MAX = 300;

export const main = createCommand({
  name: "tail",
  parse: parseTail,
  async run({ config }, { out, say, owner }) {
    trustAuthorities(config.tlsCa);
    const ended = new AbortController();
    const end = () => ended.abort();
    process.once("SIGINT", end).once("SIGTERM", end);
    owner.defer(() => void process.off("SIGINT", end).off("SIGTERM", end));
    const messages = createStatsClient(TailService, config).tail(requestOf(config), { signal: ended.signal });
    const notices = createNotices(say);
    let left = config.limit ?? Number.POSITIVE_INFINITY;
    try {
      for await (const message of messages) {
        const events = message.events.slice(0, left);
        left -= events.length;
        if (config.json) printJson(message, out);
        else for (const event of events) out(eventLine(event));
        if (message.status && !config.json) notices(message.status);
        if (left <= 0) break;
      }
    } catch (error) {
      // Ctrl-C is how it ends.
      if (!ended.signal.aborted) throw error;
    }
    ended.abort();
    return 0;
  },
  explain: (error, { config }) => explainStats(error, config),
});

function requestOf({ event, distinctId, where, recent = RECENT_DEFAULT, perSecond = 0 }: TailConfig) {
  return { events: [...event], distinctIds: [...distinctId], where, recent, eventsPerSecond: perSecond };
}

function printJson(message: TailResponse, out: (text: string) => void): void {
  out(`${printableJson(toJson(TailResponseSchema, message))}\n`);
}

function eventLine({ event, appended, isStored, position }: TailEvent): string {
  const time = appended === undefined ? "" : new Date(timestampMs(appended)).toISOString().slice(11, 23);
  const mark = isStored ? "stored " : "waiting";
  const { event: name = "", distinctId = "", id = "", propertiesJson = "" } = event ?? {};
  const properties = shortened(propertiesJson, PROPERTIES_CHARS_MAX);
  return `${time}  ${mark}  ${printable(name)}  ${printable(distinctId) || "-"}  ${id}  ${printable(position?.name ?? "")}  ${properties}\n`;
}

/** Says what changed, once. */
function createNotices(say: (line: string) => void): (status: TailStatus) => void {
  let passedOver = 0n;
  let skipped = 0n;
  let state: WatchState = WatchState.UNSPECIFIED as WatchState;
  return (status) => {
    if (status.state !== state && status.state === WatchState.INTERRUPTED) say(`tail: interrupted: ${status.reason}`);
    if (status.state === WatchState.LIVE && state === WatchState.INTERRUPTED) say("tail: goes on");
    if (status.passedOver > passedOver) {
      say(
        `tail: ${status.passedOver - passedOver} events were passed over, too many a second: narrow it, or raise --per-second`,
      );
    }
    if (status.skippedRecords > skipped) say(`tail: ${status.skippedRecords - skipped} records could not be shown`);
    passedOver = status.passedOver;
    skipped = status.skippedRecords;
    state = status.state;
  };
}
