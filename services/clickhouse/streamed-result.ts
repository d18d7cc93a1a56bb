// Results that leave piece by piece. chdb makes a whole document of the format of each block of a result, so that formats
// can be streamed whose documents, without the heads of all but the first, make one document.
import type { Session } from "chdb";
import { endpointError } from "./errors.ts";
import { readVarint } from "./native-types.ts";
import type { Statement } from "./statement.ts";

/** Takes the next piece of a result. Resolves when there is room for another; rejects when no more is wanted. */
export type Deliver = (piece: Uint8Array) => Promise<void>;

/** Shorter results are answered in one piece, with their length and an account of what was read. */
const HELD_BYTES = 1024 * 1024;
const STREAMED_KEYWORDS = new Set(["SELECT", "WITH", "FROM", "("]);
/** What is written once a result and not once a block. */
const ONCE = ["TOTALS", "EXTREMES", "OUTPUT_FORMAT_JSON_ARRAY_OF_ROWS"];

/** Length of what stands before the rows. */
type HeadLength = (document: Buffer) => number;

const none: HeadLength = () => 0;
const HEADS = new Map<string, HeadLength>([
  ...["TabSeparatedRaw", "TSVRaw", "JSONEachRow", "JSONLines", "NDJSON", "JSONStringsEachRow", "Native"].map(
    (name) => [name, none] as const,
  ),
  ...["TabSeparated", "TSV", "JSONCompactEachRow", "JSONCompactStringsEachRow"].flatMap((name) =>
    withNames(name, lines),
  ),
  ...withNames("CSV", csvLines),
  ...withNames("RowBinary", binaryTexts),
]);

function withNames(name: string, head: (count: 1 | 2) => HeadLength): [string, HeadLength][] {
  return [
    [name, none],
    [`${name}WithNames`, head(1)],
    [`${name}WithNamesAndTypes`, head(2)],
  ];
}

/** Names are escaped: a line feed ends a line. */
function lines(count: number): HeadLength {
  return (document) => {
    let at = 0;
    for (let line = 0; line < count; line++) at = document.indexOf(0x0a, at) + 1;
    return at;
  };
}

/** A name in quotes may have line feeds. */
function csvLines(count: number): HeadLength {
  return (document) => {
    let at = 0;
    let isQuoted = false;
    for (let line = 0; line < count; at++) {
      if (document[at] === 0x22) isQuoted = !isQuoted;
      if (document[at] === 0x0a && !isQuoted) line++;
    }
    return at;
  };
}

/** The number of columns, then a text with its length for each, once or twice. */
function binaryTexts(times: number): HeadLength {
  return (document) => {
    const cursor = { bytes: document, at: 0 };
    for (let text = readVarint(cursor) * times; text > 0; text--) {
      const length = readVarint(cursor);
      cursor.at += length;
    }
    return cursor.at;
  };
}

export function isStreamed(
  { keyword, tokens }: Statement,
  format: string,
  settings: ReadonlyMap<string, string>,
): boolean {
  if (!STREAMED_KEYWORDS.has(keyword) || !HEADS.has(format)) return false;
  const words = [...settings.keys(), ...tokens.map((token) => token.text)];
  return !words.some((word) => ONCE.includes(word.toUpperCase()));
}

export interface Streamed {
  /** The whole result when it is short; otherwise nothing, and all of it was delivered. */
  bytes: Uint8Array;
  resultRows: number;
  resultBytes: number;
}

/** Runs a statement that reads. Rejects with what the engine says, before the first piece or after some. */
export async function streamResult(
  session: Session,
  { sql, format, deliver, signal }: { sql: string; format: string; deliver: Deliver; signal: AbortSignal },
): Promise<Streamed> {
  const headLength = HEADS.get(format) ?? none;
  const held: Uint8Array[] = [];
  let [resultRows, resultBytes, documents] = [0, 0, 0];
  for await (const chunk of session.queryStream(sql, { format })) {
    if (signal.aborted) throw endpointError(394, "Query was cancelled: its caller has gone.");
    const raw = chunk.raw();
    const document = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
    const piece = documents++ === 0 ? document : document.subarray(headLength(document));
    resultRows += chunk.numRows;
    resultBytes += piece.length;
    held.push(piece);
    if (resultBytes <= HELD_BYTES) continue;
    for (const each of held.splice(0)) await deliver(each);
  }
  return { bytes: Buffer.concat(held), resultRows, resultBytes };
}
