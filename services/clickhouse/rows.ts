// Rows that follow INSERT … FORMAT. chdb takes those of a few text formats as bytes; all others, and those that it would
// misread, are put into a temporary table as one text and read from there by the engine's function format.
import { setImmediate } from "node:timers/promises";
import type { RawInsertFormat, RawInsertParams, Session } from "chdb";
import { quoteIdentifier, quoteText } from "#lib/warehouse/sql.ts";
import { insertCounted } from "./counted-insert.ts";
import { endpointError } from "./errors.ts";
import type { InsertTarget, Statement } from "./statement.ts";

/** What chdb's interface for bytes takes. */
const DIRECT: Readonly<Record<string, RawInsertFormat>> = {
  ...{ JSONEachRow: "JSONEachRow", JSONCompactEachRow: "JSONCompactEachRow", CSV: "CSV", CSVWithNames: "CSVWithNames" },
  ...{ NDJSON: "JSONEachRow", JSONL: "JSONEachRow", JSONLines: "JSONEachRow" },
  ...{ TSV: "TabSeparated", TabSeparated: "TabSeparated" },
  ...{ TSVWithNames: "TabSeparatedWithNames", TabSeparatedWithNames: "TabSeparatedWithNames" },
};

/** Formats that carry rows in and name no file, no schema and no other machine. */
const READABLE: readonly string[] = [
  ...Object.keys(DIRECT),
  ...["Native", "Parquet", "Arrow", "ArrowStream", "ORC", "Avro", "MsgPack", "BSONEachRow", "Npy"],
  ...["", "WithDefaults", "WithNames", "WithNamesAndTypes", "WithNamesAndTypesAndDefaults"].map(
    (kind) => `RowBinary${kind}`,
  ),
  ...["", "Compact", "Columns", "ColumnsWithMetadata", "CompactColumns", "ObjectEachRow", "AsString", "AsObject"].map(
    (kind) => `JSON${kind}`,
  ),
  ...["StringsEachRow", "CompactStringsEachRow", "CompactEachRowWithNames", "CompactEachRowWithNamesAndTypes"].map(
    (kind) => `JSON${kind}`,
  ),
  ...["JSONCompactStringsEachRowWithNames", "JSONCompactStringsEachRowWithNamesAndTypes"],
  ...["CSVWithNamesAndTypes", "TSKV", "LineAsString", "RawBLOB"],
  ...["TSV", "TSVRaw", "TabSeparated", "TabSeparatedRaw"].flatMap((name) =>
    ["", "WithNames", "WithNamesAndTypes"].map((kind) => `${name}${kind}`),
  ),
];

/** Each statement has a session of its own, and so a temporary table of its own. */
const TEMPORARY = "_millrace_rows";
const ESCAPED_AT_ONCE = 1024 * 1024;

interface Written {
  rows: number;
  bytes: number;
  seconds: number;
}

interface Column {
  name: string;
  type: string;
  default_type: string;
  default_expression: string;
}

/** Stores the rows that come with the statement, whose settings the session has. */
export async function insertRows(session: Session, target: InsertTarget, rows: Statement["rows"]): Promise<Written> {
  if (!READABLE.includes(target.format)) {
    throw endpointError(73, `Format ${target.format} is not taken for rows here. Use one of: ${READABLE.join(", ")}.`);
  }
  return (await insertDirectly(session, target, rows)) ?? (await insertByFormat(session, target, rows));
}

async function insertDirectly(
  session: Session,
  { names, columns, columnsSql, format }: InsertTarget,
  rows: Statement["rows"],
): Promise<Written | undefined> {
  const direct: RawInsertFormat | undefined = DIRECT[format];
  const plain = [...names, ...(columns ?? [])].every((name) => /^[A-Za-z_]\w*$/.test(name));
  const values = direct === undefined ? undefined : cleanRows(rows, direct);
  if (direct === undefined || values === undefined || !plain || columnsSql !== undefined) return undefined;
  const insert: RawInsertParams = { table: names.join("."), format: direct, values };
  const result = await session.insert(columns === undefined ? insert : { ...insert, columns });
  return { rows: result.rowsWritten, bytes: result.bytesWritten, seconds: result.elapsed };
}

/**
 * The engine's interface reads up to the first empty line as rows and what follows as SQL of its own. An empty line means
 * nothing between JSON rows and is data in CSV and TSV; neither may reach it. Undefined: read them another way.
 */
function cleanRows(rows: Uint8Array, format: string): Buffer | undefined {
  let [begin, end] = [0, rows.length];
  if (format.startsWith("JSON")) {
    const blank = (byte: number | undefined) => byte === 0x0a || byte === 0x0d || byte === 0x20 || byte === 0x09;
    while (begin < end && blank(rows[begin])) begin++;
    while (end > begin && blank(rows[end - 1])) end--;
  }
  const clean = Buffer.from(rows.buffer, rows.byteOffset + begin, end - begin);
  return clean[0] === 0x0a || clean.includes("\n\n") ? undefined : clean;
}

async function insertByFormat(session: Session, target: InsertTarget, rows: Uint8Array): Promise<Written> {
  const table = target.names.map(quoteIdentifier).join(".");
  const columns = await columnsOf(session, table, target);
  await session.queryAsync(`CREATE TEMPORARY TABLE ${TEMPORARY} (text String) ENGINE = Memory`);
  await session.insert({ table: TEMPORARY, format: "TSV", values: await asOneText(rows) });
  const names = columns.map(({ name }) => quoteIdentifier(name)).join(", ");
  const structure = columns.map(structureOf).join(", ");
  const source = `format(${target.format}, ${quoteText(structure)}, (SELECT text FROM ${TEMPORARY}))`;
  return insertCounted(session, `INSERT INTO ${table} (${names}) SELECT ${names} FROM ${source}`);
}

/** The columns that the rows are for, in their order. */
async function columnsOf(session: Session, table: string, target: InsertTarget): Promise<Column[]> {
  const describe = async (what: string) =>
    (await session.queryAsync(`DESCRIBE TABLE ${what}`, { format: "JSON" })).json<{ data: Column[] }>().data;
  const all = await describe(table);
  let names = target.columns;
  if (target.columnsSql !== undefined) {
    names = (await describe(`(SELECT ${target.columnsSql} FROM ${table})`)).map(({ name }) => name);
  }
  if (names === undefined) return all.filter((column) => ["", "DEFAULT"].includes(column.default_type));
  return names.map((name) => {
    const column = all.find((it) => it.name === name);
    if (column === undefined) throw endpointError(16, `No such column ${name} in table ${target.names.join(".")}.`);
    return column;
  });
}

function structureOf({ name, type, default_type, default_expression }: Column): string {
  return `${quoteIdentifier(name)} ${type}${default_type === "DEFAULT" ? ` DEFAULT ${default_expression}` : ""}`;
}

const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0" };

/** One value of one row in the format TSV, whatever bytes it is of. */
async function asOneText(rows: Uint8Array): Promise<Buffer> {
  const bytes = Buffer.from(rows.buffer, rows.byteOffset, rows.byteLength);
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += ESCAPED_AT_ONCE) {
    if (at > 0) await setImmediate();
    const text = bytes.toString("latin1", at, at + ESCAPED_AT_ONCE);
    parts.push(
      Buffer.from(
        text.replace(/[\\\t\n\r\0]/g, (character) => ESCAPES[character] ?? character),
        "latin1",
      ),
    );
  }
  return Buffer.concat([...parts, Buffer.from("\n")]);
}
