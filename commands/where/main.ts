// `millrace where`: exit code 0 when every event is where it should be, 3 when one is not, 1 when it could not be asked, 2 for
// wrong arguments.
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { toJson } from "@bufbuild/protobuf";
import { type Receipt, ReceiptSchema, ReceiptService, ReceiptState } from "#gen/millrace/stats/v1/receipts_pb.ts";
import { trustAuthorities } from "#lib/config/tls-settings.ts";
import { printable, printableJson } from "#lib/process/printable.ts";
import { createCommand } from "#lib/process/run-command.ts";
import { createStatsClient, explainStats } from "#lib/stats-client/stats-client.ts";
import { parseWhere, type WhereConfig } from "./config.ts";

const exitNotStored = 3;
const IDS_PER_CALL = 500;
const CALL_MS_MAX = 60_000;
const FINE: readonly ReceiptState[] = [ReceiptState.STORED, ReceiptState.DUPLICATE, ReceiptState.ERASED];

class FileError extends Error {
  override readonly name = "FileError";
}

export const main = createCommand({
  name: "where",
  parse: parseWhere,
  async run({ config }, { out }) {
    trustAuthorities(config.tlsCa);
    const client = createStatsClient(ReceiptService, config, CALL_MS_MAX);
    let exitCode = 0;
    for await (const ids of inGroups(idsOf(config))) {
      const { receipts } = await client.where({ ids });
      for (const receipt of receipts) {
        out(config.json ? `${printableJson(toJson(ReceiptSchema, receipt))}\n` : receiptLine(receipt));
        if (!FINE.includes(receipt.state)) exitCode = exitNotStored;
      }
    }
    return exitCode;
  },
  explain: (error, { config }) => (error instanceof FileError ? error.message : explainStats(error, config)),
});

function receiptLine({ id, text }: Receipt): string {
  return `${printable(id)}  ${printable(text)}\n`;
}

async function* idsOf({ ids, file }: WhereConfig): AsyncGenerator<string> {
  yield* ids;
  if (file === undefined) return;
  const input = file === "-" ? process.stdin : createReadStream(file);
  try {
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      const [word = ""] = line.trim().split(/[\s,;]+/, 1);
      const id = word.replace(/^"(.*)"$/, "$1");
      if (id !== "" && !id.startsWith("#")) yield id;
    }
  } catch (error) {
    throw new FileError(`--file ${file}: cannot be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`, {
      cause: error,
    });
  }
}

async function* inGroups(ids: AsyncIterable<string>): AsyncGenerator<string[]> {
  let group: string[] = [];
  for await (const id of ids) {
    group.push(id);
    if (group.length < IDS_PER_CALL) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}
