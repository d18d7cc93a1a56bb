// The endpoint as curl, drivers and @clickhouse/client see it.
import { type IncomingMessage, request } from "node:http";
import { Readable } from "node:stream";
import {
  brotliDecompressSync,
  deflateSync,
  gunzipSync,
  gzipSync,
  zstdCompressSync,
  zstdDecompressSync,
} from "node:zlib";
import { createClient } from "@clickhouse/client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeLz4Frame } from "#lib/process/lz4.ts";
import { startClickHouse } from "../../services/clickhouse/app.ts";
import { compressBlocks, decompressBlocks } from "../../services/clickhouse/compressed-blocks.ts";
import { READ_SLOTS } from "../../services/clickhouse/sessions.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { atMost } from "../kit/patience.ts";

let clickhouse: TestClickHouse;
const auth = { "X-ClickHouse-User": "default", "X-ClickHouse-Key": "secret" };

beforeAll(async () => {
  clickhouse = await startTestClickHouse({ password: "secret" });
});

afterAll(() => clickhouse[Symbol.asyncDispose]());

interface Call {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: string | Buffer;
  signal?: AbortSignal;
}

/** fetch sets Host and decodes bodies by itself; this does neither. */
function call({ method = "POST", path = "/", headers = auth, body, signal }: Call) {
  return new Promise<{ status: number; headers: Record<string, unknown>; body: Buffer; text: string }>(
    (resolve, reject) => {
      const sent = request(new URL(path, clickhouse.url), { method, headers, signal }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const bytes = Buffer.concat(chunks);
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: bytes, text: bytes.toString() });
        });
      });
      sent.on("error", reject);
      sent.end(body);
    },
  );
}

const sql = (query: string, parameters: Record<string, string> = {}) =>
  call({ path: `/?${new URLSearchParams(parameters)}`, body: query });

describe("requests", () => {
  it.each([
    ["in the body", { body: "SELECT 1" }],
    ["in the URL of a GET", { method: "GET", path: "/?query=SELECT%201" }],
    ["in both, joined", { path: "/?query=SELECT", body: "1" }],
    ["in a form", multipart({ query: "SELECT {a:UInt8}", param_a: "1" })],
    ["in chunks", { headers: { ...auth, "Transfer-Encoding": "chunked" }, body: "SELECT 1" }],
  ] as [string, Call][])("take SQL %s", async (_, given) => {
    const { status, text, headers } = await call(given);
    expect([status, text, headers["x-clickhouse-format"]]).toEqual([200, "1\n", "TabSeparated"]);
  });

  it("answer /ping without a password, and nothing else", async () => {
    expect((await call({ method: "GET", path: "/ping", headers: {} })).text).toBe("Ok.\n");
    expect((await call({ method: "GET", path: "/dashboard" })).status).toBe(404);
    expect((await call({ method: "PUT" })).status).toBe(405);
  });

  it("say at /play where to look instead", async () => {
    const { status, text, headers } = await call({ method: "GET", path: "/play", headers: {} });
    expect([status, headers["content-type"]]).toEqual([200, "text/html; charset=UTF-8"]);
    expect(text).toContain("Millrace's console");
  });

  it("read only, with GET", async () => {
    for (const query of ["CREATE TABLE x (a Int8) ENGINE = Memory", "KILL QUERY WHERE 1", "SET max_threads = 1"]) {
      const { status, text } = await call({ method: "GET", path: `/?${new URLSearchParams({ query })}` });
      expect([status, text]).toEqual([403, expect.stringContaining("Code: 164")]);
    }
    const smuggled = "WITH 1 AS x SELECT x SETTINGS readonly = 0";
    expect((await call({ method: "GET", path: `/?${new URLSearchParams({ query: smuggled })}` })).text).toContain(
      "Code: 164",
    );
  });

  it("say what they did", async () => {
    await sql("CREATE TABLE summary (a UInt32) ENGINE = MergeTree ORDER BY a");
    const { headers } = await sql("INSERT INTO summary FORMAT CSV\n1\n2\n3\n", { query_id: "mine" });
    expect(headers["x-clickhouse-query-id"]).toBe("mine");
    expect(JSON.parse(String(headers["x-clickhouse-summary"]))).toMatchObject({ written_rows: "3" });
  });

  it("share no setting, parameter, database or temporary table", async () => {
    await sql("CREATE DATABASE elsewhere");
    await sql("SELECT {a:UInt8}", { param_a: "1", max_threads: "1", database: "elsewhere" });
    const results = await Promise.all(
      ["SELECT {a:UInt8}", "SELECT currentDatabase(), getSetting('max_threads') = 1"].map((it) => sql(it)),
    );
    expect(results.map(({ status }) => status)).toEqual([400, 200]);
    expect(results[1]?.text).toBe("default\t0\n");
  });

  it.each([
    [
      "SET max_threads = 1",
      501,
      "SET has no effect here: each request has a session of its own. Send the setting with",
    ],
    ["set max_threads = 1", 501, "SET has no effect here"],
    ["CREATE TEMPORARY TABLE mine (a UInt8)", 501, "CREATE TEMPORARY has no effect here"],
    ["CREATE OR REPLACE TEMPORARY TABLE mine (a UInt8) ENGINE = Memory", 501, "CREATE TEMPORARY has no effect here"],
    ["USE default", 501, "USE has no effect here: each request has a session of its own. Send database=NAME"],
  ])("refuse in words what would be gone with the request: %s", async (statement, status, words) => {
    const refused = await sql(statement, { session_id: "s" });
    expect([refused.status, refused.text]).toEqual([status, expect.stringContaining(words)]);
  });

  it("answer that no session is found to a driver that checks", async () => {
    const { status, text } = await sql("SELECT 1", { session_id: "s", session_check: "1" });
    expect([status, text]).toEqual([404, expect.stringContaining("Code: 372. DB::Exception: Session not found")]);
  });
});

/** More than is held back, in many blocks. */
const LONG = "SELECT number, toString(number) AS `te\\nxt` FROM numbers(300000) SETTINGS max_block_size = 10000";

describe("long results", () => {
  const FORMATS = [
    ...["TabSeparated", "TSVWithNames", "TabSeparatedWithNamesAndTypes", "CSV", "CSVWithNames", "CSVWithNamesAndTypes"],
    ...["JSONEachRow", "JSONCompactEachRow", "JSONCompactEachRowWithNamesAndTypes", "RowBinary"],
    ...["RowBinaryWithNames", "RowBinaryWithNamesAndTypes"],
  ];
  it.each(FORMATS)("are the same piece by piece as whole: %s", async (format) => {
    const [streamed, whole] = await Promise.all([
      sql(LONG, { default_format: format }),
      sql(LONG, { default_format: format, wait_end_of_query: "1" }),
    ]);
    expect([streamed.status, whole.status]).toEqual([200, 200]);
    expect(streamed.headers["transfer-encoding"]).toBe("chunked");
    expect(Number(whole.headers["content-length"])).toBe(whole.body.length);
    expect(streamed.body.equals(whole.body)).toBe(true);
  });

  it.each([
    ["gzip", gunzipSync],
    ["br", brotliDecompressSync],
    ["zstd", zstdDecompressSync],
  ] as const)("are compressed piece by piece: %s", async (encoding, decompress) => {
    const [streamed, whole] = await Promise.all([
      call({
        path: "/?enable_http_compression=1",
        headers: { ...auth, "Accept-Encoding": encoding },
        body: LONG,
      }),
      sql(LONG),
    ]);
    expect(streamed.headers["content-encoding"]).toBe(encoding);
    expect(decompress(streamed.body).equals(whole.body)).toBe(true);
  });

  it("are the same in ClickHouse's blocks, and in Native for a driver", async () => {
    const parts: Buffer[] = [];
    const { body } = await sql(LONG, { compress: "1" });
    await decompressBlocks(body, (block) => parts.push(block), 64 * 1024 * 1024);
    expect(Buffer.concat(parts).equals((await sql(LONG)).body)).toBe(true);
    const version = { default_format: "Native", client_protocol_version: "54468" };
    const native = await sql(LONG, version);
    const whole = await sql(LONG, { ...version, wait_end_of_query: "1" });
    expect(native.body.equals(whole.body)).toBe(true);
  });

  it.each([
    ["totals", "SELECT number % 3 AS a, count() FROM numbers(9) GROUP BY a WITH TOTALS ORDER BY a"],
    ["extremes", "SELECT number FROM numbers(3) SETTINGS extremes = 1"],
    [
      "an array of rows",
      "SELECT number FROM numbers(3) FORMAT JSONEachRow SETTINGS output_format_json_array_of_rows = 1",
    ],
    ["a parameter", "SELECT number FROM numbers({n:UInt8}) FORMAT CSVWithNames"],
    ["no rows", "SELECT number FROM numbers(0) FORMAT CSVWithNames"],
    ["a UNION in parentheses", "(SELECT 1 AS a) UNION ALL (SELECT 2)"],
  ])("and short ones, too: %s", async (_, query) => {
    const one = { param_n: "3", max_block_size: "1" };
    const [streamed, whole] = await Promise.all([sql(query, one), sql(query, { ...one, wait_end_of_query: "1" })]);
    expect([streamed.status, sorted(streamed.text)]).toEqual([200, sorted(whole.text)]);
  });

  it("are longer than what one process could hold, in bounded memory", async () => {
    const bytes = await bytesOf("SELECT number, repeat('x', 1000) FROM numbers(400000)");
    expect(bytes).toBeGreaterThan(400_000_000);
  });

  it("that fail on the way end without an end, with the reason behind the rows", async () => {
    const failing = "SELECT throwIf(number = 290000, 'too far') FROM numbers(300000) SETTINGS max_block_size = 10000";
    await expect(sql(`${failing} FORMAT RowBinary`)).resolves.toMatchObject({ status: 500 });
    const long = failing.replace("SELECT", "SELECT repeat('y', 50),");
    await expect(sql(long)).rejects.toMatchObject({ code: "ECONNRESET" });
    await expect(sql(long, { wait_end_of_query: "1" })).resolves.toMatchObject({ status: 500 });
  });

  it("of a caller who stops reading give their place back when the caller goes", async () => {
    const stopped = await Promise.all(
      Array.from({ length: READ_SLOTS }, () => firstBytesOf("SELECT number FROM numbers(1000000000)")),
    );
    for (const response of stopped) response.destroy();
    expect((await sql("SELECT 1")).text).toBe("1\n");
  });
});

const sorted = (text: string) => text.split("\n").sort();

function firstBytesOf(query: string) {
  return new Promise<IncomingMessage>((resolve, reject) => {
    const sent = request(new URL("/", clickhouse.url), { method: "POST", headers: auth }, (response) => {
      response.once("error", () => undefined);
      response.once("readable", () => resolve(response));
    });
    sent.on("error", reject);
    sent.end(query);
  });
}

function bytesOf(query: string) {
  return new Promise<number>((resolve, reject) => {
    const sent = request(new URL("/", clickhouse.url), { method: "POST", headers: auth }, (response) => {
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
      });
      response.on("error", reject);
      response.on("end", () => resolve(bytes));
    });
    sent.on("error", reject);
    sent.end(query);
  });
}

function multipart(fields: Record<string, string>): Call {
  const parts = Object.entries(fields).map(
    ([name, value]) => `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  );
  return {
    headers: { ...auth, "Content-Type": "multipart/form-data; boundary=b" },
    body: `${parts.join("")}--b--\r\n`,
  };
}

it.each([
  ["String", "file"],
  ["Nullable(String)", "file"],
  ["LowCardinality(String)", "file"],
  ["Array(String)", "['file']"],
  ["Map(String, String)", "{'file':'file'}"],
])("a value file of type %s is a value", async (type, value) => {
  expect((await sql(`SELECT toString({v:${type}}) FORMAT TSVRaw`, { param_v: value })).text).toBe(`${value}\n`);
});

describe("compression", () => {
  it.each([
    ["gzip", gzipSync],
    ["deflate", deflateSync],
    ["zstd", zstdCompressSync],
  ] as const)("of a request body with %s", async (encoding, compress) => {
    const headers = { ...auth, "Content-Encoding": encoding };
    expect((await call({ headers, body: compress("SELECT 'é'") })).text).toBe("é\n");
  });

  it.each([
    ["gzip", gunzipSync],
    ["br", brotliDecompressSync],
    ["zstd", zstdDecompressSync],
  ] as const)("of a response with %s, when both sides ask for it", async (encoding, decompress) => {
    const headers = { ...auth, "Accept-Encoding": encoding };
    const given = { headers, body: "SELECT repeat('a', 1000)" };
    const response = await call({ ...given, path: "/?enable_http_compression=1" });
    expect(response.headers["content-encoding"]).toBe(encoding);
    expect(decompress(response.body).toString()).toBe(`${"a".repeat(1000)}\n`);
    expect((await call(given)).headers["content-encoding"]).toBeUndefined();
  });

  it.each([
    ["a broken body", "gzip", 400],
    ["an unknown encoding", "snappy", 415],
  ] as const)("refuses %s", async (_, encoding, status) => {
    expect((await call({ headers: { ...auth, "Content-Encoding": encoding }, body: "no" })).status).toBe(status);
  });
});

describe("compress=1 and decompress=1", () => {
  it.each(["lz4", "zstd", "none"] as const)("carry SQL and rows in blocks of %s", async (method) => {
    const body = Buffer.concat(
      await Array.fromAsync(
        compressBlocks(Buffer.from("SELECT repeat('a', 1000000) FROM numbers(3) FORMAT RawBLOB"), method),
      ),
    );
    const path = `/?compress=1&decompress=1&network_compression_method=${method}`;
    const answer = await call({ path, body });
    expect(answer.status).toBe(200);
    const blocks: Buffer[] = [];
    await decompressBlocks(answer.body, (block) => blocks.push(block), 10_000_000);
    expect(Buffer.concat(blocks).toString()).toBe("a".repeat(3_000_000));
  });

  it("refuse what is no block", async () => {
    const { status, text } = await call({ path: "/?decompress=1", body: "SELECT 1" });
    expect([status, text]).toEqual([400, expect.stringContaining("Code: 354")]);
  });

  it("lz4 is an encoding of bodies as well", async () => {
    const headers = { ...auth, "Content-Encoding": "lz4" };
    expect((await call({ headers, body: writeLz4Frame(Buffer.from("SELECT 1")) })).text).toBe("1\n");
    expect((await call({ headers, body: "SELECT 1" })).text).toContain("Code: 354");
  });
});

describe("Native of a protocol version", () => {
  it.each([
    "SELECT number, toString(number) FROM numbers(3)",
    "SELECT [[1, 2], []]::Array(Array(UInt8)), map('k', [toNullable(1)])",
    "SELECT (1, 'a', NULL)::Tuple(a UInt8, `b c` String, d Nullable(Date)), 1::Decimal(38, 3), toDateTime64(0, 3, 'UTC')",
    "SELECT ['x', 'y', 'x']::Array(LowCardinality(Nullable(String))), toLowCardinality(number % 3) FROM numbers(1000)",
    "SELECT toFixedString('abc', 5), toUUID('26bdd0f2-5264-42e2-a1a0-a95a7d25228c'), '::1'::IPv6, 'a, (b'::Enum8('a, (b' = 1)",
    "SELECT CAST([(1, 2)], 'Ring'), INTERVAL 1 DAY, NULL, true, 1::Int256",
    "SELECT 1 WHERE 0",
    "SELECT '{\"a\":1}'::JSON AS j",
  ])("has its account before each block and a byte in each column: %s", async (query) => {
    const body = `${query} FORMAT Native`;
    // As text in both: a JSON column depends on the version.
    const asText = "output_format_native_write_json_as_string=1&max_block_size=100000";
    const [plain, first, later] = await Promise.all(
      ["", "&client_protocol_version=54000", "&client_protocol_version=54460"].map((version) =>
        call({ path: `/?${asText}${version}`, body }),
      ),
    );
    const [columns, account] = [plain?.body[0] ?? 0, plain?.body.length === 0 ? 0 : 8];
    expect(first?.body.length).toBe((plain?.body.length ?? 0) + account);
    expect(later?.body.length).toBe((plain?.body.length ?? 0) + account + columns);
    expect(first?.body.subarray(account).equals(plain?.body ?? Buffer.alloc(1))).toBe(true);
  });

  it("is refused for a type whose end cannot be found, with what to do", async () => {
    const body = "SELECT 1::Dynamic FORMAT Native";
    expect((await call({ path: "/?client_protocol_version=54460", body })).text).toMatch(
      /Code: 48.*toString\(column\)/,
    );
  });
});

describe("rows", () => {
  const columns = "id UInt64, s String, n Nullable(Float64), a Array(String), z UInt8 DEFAULT 7";
  const given =
    "SELECT 18446744073709551615 AS id, 'a\\n\\n\\t\\\\\\0é' AS s, NULL::Nullable(Float64) AS n, ['x', ''] AS a";

  it.each([
    ...["Native", "RowBinary", "RowBinaryWithNames", "RowBinaryWithNamesAndTypes", "Parquet", "Arrow", "ArrowStream"],
    ...["ORC", "Avro", "MsgPack", "JSON", "JSONCompact", "JSONColumns", "JSONCompactColumns", "JSONEachRow", "NDJSON"],
    ...["JSONL", "JSONLines", "JSONCompactEachRow", "JSONCompactEachRowWithNames", "JSONObjectEachRow", "CSV", "TSKV"],
    ...["JSONCompactEachRowWithNamesAndTypes", "JSONStringsEachRow", "BSONEachRow", "CSVWithNames", "TSVWithNames"],
    ...["CSVWithNamesAndTypes", "TSV", "TabSeparated", "TSVWithNamesAndTypes"],
  ])("come back from %s", async (format) => {
    const table = `rows_${format}`;
    await sql(`CREATE TABLE ${table} (${columns}) ENGINE = MergeTree ORDER BY id`);
    const written = await call({ body: `${given} FORMAT ${format}` });
    expect(written.status).toBe(200);
    const path = `/?${new URLSearchParams({ query: `INSERT INTO ${table} (id, s, n, a) FORMAT ${format}` })}`;
    const { headers, text } = await call({ path, body: written.body });
    expect(text).toBe("");
    expect(JSON.parse(String(headers["x-clickhouse-summary"]))).toMatchObject({ written_rows: "1" });
    // MsgPack and BSON have no NULL of a type; what matters is that it is none.
    expect((await sql(`SELECT * FROM ${table} FORMAT Values`)).text).toBe(
      (await sql(`${given}, 7 FORMAT Values`)).text,
    );
  });

  it("are counted in VALUES and SELECT as well", async () => {
    await sql("CREATE TABLE counted (a UInt8) ENGINE = MergeTree ORDER BY a");
    for (const [query, rows] of [
      ["INSERT INTO counted VALUES (1), (2)", "2"],
      ["INSERT INTO counted SELECT number FROM numbers(5)", "5"],
      ["INSERT INTO counted FORMAT CSV\n1\n\n2\n", "3"],
    ]) {
      const { headers } = await sql(query ?? "", { input_format_csv_skip_trailing_empty_lines: "0" });
      expect(JSON.parse(String(headers["x-clickhouse-summary"]))).toMatchObject({ written_rows: rows });
    }
  });

  it("go into tables and columns with any name, without some columns, with empty lines, and are never SQL", async () => {
    await sql("CREATE DATABASE `a b`");
    await sql("CREATE TABLE `a b`.`c.d` (`e f` String, g String DEFAULT 'default') ENGINE = Memory");
    const post = async (body: string) => expect((await sql(body)).text).toBe("");
    await post("INSERT INTO `a b`.`c.d` (`e f`) FORMAT TSV\nplain\n");
    await post('INSERT INTO `a b`.`c.d` (* EXCEPT (g)) FORMAT JSONEachRow\n{"e f":"except"}\n');
    await post('INSERT INTO `a b`.`c.d` FORMAT JSONEachRow\n{"e f":"sql"}\n\n{"e f":"INSERT INTO t"}\n');
    await post('INSERT INTO `a b`.`c.d` FORMAT CSV\n"in\n\nquotes","x"\n');
    expect(
      (await sql("SELECT * FROM `a b`.`c.d` ORDER BY ALL FORMAT JSONCompactEachRow")).text.trim().split("\n"),
    ).toEqual([
      '["INSERT INTO t", "default"]',
      '["except", "default"]',
      '["in\\n\\nquotes", "x"]',
      '["plain", "default"]',
      '["sql", "default"]',
    ]);
  });

  it.each(["Template", "Protobuf", "AvroConfluent", "CapnProto", "MySQLDump", "Regexp", "NoSuch"])(
    "are not taken in %s",
    async (format) => {
      expect((await sql(`INSERT INTO counted FORMAT ${format}\nx`)).text).toMatch(/Code: 73.*Use one of: .*Native/);
    },
  );
});

describe("errors", () => {
  it.each([
    ["syntax", "SELEC 1", 400, 62],
    ["no query", "", 400, 62],
    ["an unknown table", "SELECT * FROM nowhere", 404, 60],
    ["an unknown function", "SELECT nofunction()", 404, 46],
    ["a thrown value", "SELECT throwIf(number = 3) FROM numbers(10)", 500, 395],
    ["too little time", "SELECT sleep(3) SETTINGS max_execution_time = 1", 408, 159],
    ["a row that cannot be parsed", "INSERT INTO FUNCTION null('a Int8') VALUES ('x')", 403, 497],
  ])("of %s have their status, code and text", async (_, query, status, code) => {
    const response = await sql(query);
    expect([response.status, response.headers["x-clickhouse-exception-code"]]).toEqual([status, String(code)]);
    expect(response.text).toMatch(new RegExp(`^Code: ${code}\\. DB::Exception: .*\\([A-Z_]+\\)`, "s"));
  });

  it("of an unknown setting and an unknown database are 404", async () => {
    expect((await sql("SELECT 1", { nosuch: "1" })).text).toContain("Code: 115");
    expect((await sql("SELECT 1", { database: "nowhere" })).text).toContain("Code: 81");
  });
});

describe("who may ask", () => {
  const basic = (text: string) => ({ Authorization: `Basic ${Buffer.from(text).toString("base64")}` });
  it.each([
    ["nothing", {}, 401],
    ["a wrong password", basic("default:no"), 403],
    ["a wrong user", basic("root:secret"), 403],
    ["basic auth", basic("default:secret"), 200],
    ["an Origin", { ...auth, Origin: "http://localhost:3000" }, 403],
    ["a page's fetch metadata", { ...auth, "Sec-Fetch-Site": "cross-site" }, 403],
    ["a foreign Host", { ...auth, Host: "evil.example" }, 403],
    ["the name localhost", { ...auth, Host: "localhost:8123" }, 200],
    ["the IPv6 loopback", { ...auth, Host: "[::1]:8123" }, 200],
  ] as [string, Record<string, string>, number][])("%s gets %3$i", async (_, headers, status) => {
    expect((await call({ headers, body: "SELECT 1" })).status).toBe(status);
  });

  it("takes credentials in the URL", async () => {
    const path = "/?user=default&password=secret&query=SELECT%201";
    expect((await call({ method: "GET", path, headers: {} })).text).toBe("1\n");
  });

  it("refuses to start on an open address without a password, naming the remedy", async () => {
    const options = { host: "0.0.0.0", port: 0, dataDir: clickhouse.dataDir, user: "default", password: "" };
    await expect(startClickHouse(options)).rejects.toThrow(/Set CLICKHOUSE_PASSWORD/);
  });
});

describe("limits", () => {
  it("let no slow read hold an insert back", async () => {
    await sql("CREATE TABLE lanes (a UInt8) ENGINE = MergeTree ORDER BY a");
    let slow = 0;
    const reads = Array.from({ length: 12 }, () => sql("SELECT sleep(1)").then(() => slow++));
    expect((await sql("INSERT INTO lanes FORMAT CSV\n1\n")).status).toBe(200);
    expect(slow).toBe(0);
    await Promise.all(reads);
  });

  it("refuse a body above the limit before and after decompression, and the connection stays usable", async () => {
    const tooLarge = 64 * 1024 * 1024 + 1;
    const declared = call({ headers: { ...auth, "Content-Length": String(tooLarge) }, body: "SELECT 1" });
    expect((await declared).status).toBe(413);
    const bomb = gzipSync(Buffer.alloc(tooLarge, " "));
    expect((await call({ headers: { ...auth, "Content-Encoding": "gzip" }, body: bomb })).status).toBe(413);
    expect((await sql("SELECT 1")).status).toBe(200);
  });

  it("let nobody wait while a long statement is read", async () => {
    let read = false;
    const long = sql(`SELECT ${"t.a,".repeat(60_000)} file('/etc/passwd')`).then(({ text }) => {
      read = true;
      return text;
    });
    for (let ping = 0; ping < 10; ping++) expect((await call({ method: "GET", path: "/ping" })).status).toBe(200);
    expect(read).toBe(false);
    expect(await long).toContain("Code: 497");
  });

  it.each([
    ["names of functions", "SELECT 'a' file, url, remote, s3 "],
    ["calls in parentheses", "(file (url ( remote ) ) ) "],
    ["engines", "ENGINE QueryRunner, ENGINE = URL "],
  ])("answer 550 KB of hostile words within 300 ms while inserts go on: %s", async (_, words) => {
    const body = `SELECT ${words.repeat(Math.ceil(550_000 / words.length))}`;
    const insert = () => sql("INSERT INTO busy FORMAT CSV\n1\n");
    await sql("CREATE TABLE IF NOT EXISTS busy (a UInt8) ENGINE = MergeTree ORDER BY a");
    const begun = performance.now();
    const long = call({ body }).then(({ status }) => ({ status, ms: performance.now() - begun }));
    const inserted = await Promise.all(Array.from({ length: 3 }, insert));
    expect(inserted.map(({ status }) => status)).toEqual([200, 200, 200]);
    const { status, ms } = await long;
    expect([400, 403]).toContain(status);
    expect(ms).toBeLessThan(atMost(300));
  });

  it("refuse a statement of too many words, naming the remedy", async () => {
    const { status, text } = await sql(`INSERT INTO lanes VALUES ${"(1),".repeat(500_000)}(1)`);
    expect([status, text]).toEqual([400, expect.stringContaining("Send rows as INSERT … FORMAT, not VALUES")]);
  });

  it("stop a query whose caller has gone", async () => {
    const controller = new AbortController();
    const marker = "SELECT 'abandoned', count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))";
    const running = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT \\'abandoned\\'%'";
    const abandoned = call({ body: marker, signal: controller.signal }).catch((error: Error) => error.name);
    await expect.poll(async () => (await sql(running)).text, { timeout: 10_000 }).toBe("1\n");
    controller.abort();
    expect(await abandoned).toBe("AbortError");
    await expect.poll(async () => (await sql(running)).text, { timeout: 10_000 }).toBe("0\n");
  });
});

describe("@clickhouse/client", () => {
  const connect = (compression = false) =>
    createClient({
      url: clickhouse.url,
      password: "secret",
      compression: { request: compression, response: compression },
      log: { level: 127 },
    });

  it.each([false, true])("pings, commands, inserts, queries and execs (compression: %s)", async (compression) => {
    await using client = connect(compression);
    expect(await client.ping()).toEqual({ success: true });
    expect(await client.ping({ select: true })).toEqual({ success: true });
    await client.command({ query: "CREATE OR REPLACE TABLE c (id UInt64, s String) ENGINE = MergeTree ORDER BY id" });
    await client.insert({ table: "c", values: [{ id: "18446744073709551615", s: "é\n'\\\t" }], format: "JSONEachRow" });
    await client.insert({ table: "c", values: [[1, "x"]], columns: ["id", "s"], format: "JSONCompactEachRow" });
    const values = Readable.from([Buffer.from("2\tfrom bytes\n")], { objectMode: false });
    await client.exec({ query: "INSERT INTO c FORMAT TabSeparated", values }).then(({ stream }) => stream.resume());
    const result = await client.query({ query: "SELECT * FROM c ORDER BY id", format: "JSONEachRow" });
    expect(await result.json()).toEqual([
      { id: "1", s: "x" },
      { id: "2", s: "from bytes" },
      { id: "18446744073709551615", s: "é\n'\\\t" },
    ]);
  });

  it("binds parameters of all kinds, in the URL and in a form", async () => {
    await using client = connect();
    const query_params = {
      s: "it's \\ a\ttab\nand é",
      n: 42,
      f: 1.5,
      b: true,
      d: new Date("2026-07-01T12:00:00Z"),
      a: ["x'y", "z"],
      m: { k: "v" },
      u: null,
    };
    const query = `SELECT {s:String} AS s, {n:Int32} AS n, {f:Float64} AS f, {b:Bool} AS b,
      toString({d:DateTime('UTC')}) AS d, {a:Array(String)} AS a, {m:Map(String, String)} AS m, {u:Nullable(String)} AS u`;
    for (const use_multipart_params of [false, true]) {
      const result = await client.query({ query, query_params, use_multipart_params, format: "JSONEachRow" });
      expect(await result.json()).toEqual([{ ...query_params, d: "2026-07-01 12:00:00" }]);
    }
  });

  it("tells exceptions by code", async () => {
    await using client = connect();
    await expect(client.query({ query: "SELECT * FROM nowhere" })).rejects.toMatchObject({ code: "60" });
  });
});

it("rows keep every byte", async () => {
  await sql("CREATE TABLE bytes (s String) ENGINE = MergeTree ORDER BY s");
  const all = Buffer.from(
    Array.from({ length: 256 }, (_, at) => at).filter((at) => ![0x22, 0x5c, 0x0a, 0x0d].includes(at)),
  );
  const body = Buffer.concat([Buffer.from('["'), all, Buffer.from('"]\n')]);
  const path = `/?${new URLSearchParams({ query: "INSERT INTO bytes (s) FORMAT JSONCompactEachRow" })}`;
  expect(await call({ path, body })).toMatchObject({ status: 200 });
  expect((await sql("SELECT hex(s) FROM bytes")).text.trim().toLowerCase()).toBe(all.toString("hex"));
});
