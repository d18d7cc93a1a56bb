// Every decoder of what callers and operators send (of what is on the log: fuzz-log.test.ts), fed with noise and with
// damaged good inputs: it reads them or refuses them by its own error, in good time, and within its bounds. With the
// variable FUZZ_SECONDS set, each is fed new ones for so long instead.
import zlib from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { parseConfig } from "#lib/config/parse.ts";
import * as kinds from "#lib/config/settings.ts";
import { DEFAULT_LIMITS } from "#lib/events/limits.ts";
import { parseDateText, parseRfc3339 } from "#lib/events/time.ts";
import { networkOf } from "#lib/http/addresses.ts";
import { createOrigins } from "#lib/http/cors.ts";
import { DecodedTooLargeError, decode, encode, UndecodableError } from "#lib/http/encodings.ts";
import { parseItem } from "#lib/relay-protocol/items.ts";
import { createLineSplitter } from "#lib/relay-protocol/lines.ts";
import { parseOverride } from "#lib/relay-protocol/override.ts";
import { createBoundaries } from "../../commands/import/boundaries.ts";
import { createRowParser } from "../../commands/import/parse.ts";
import { InputError, splitRows } from "../../commands/import/records.ts";
import { createTimeParser } from "../../commands/import/time.ts";
import { ClickHouseError } from "../../services/clickhouse/errors.ts";
import { assertAllowed } from "../../services/clickhouse/guard.ts";
import { readStatement } from "../../services/clickhouse/statement.ts";
import { createJsonReading } from "../../services/gateway/json-body.ts";
import { Refused } from "../../services/gateway/refusals.ts";
import { createTrustedProxies, proxyFault, storedAddress } from "../../services/gateway/trusted-proxies.ts";
import { WIRES } from "../../services/gateway/wire-table.ts";
import { readEnvelope } from "../../services/gateway/wires/batch-body.ts";
import { readEvents } from "../../services/gateway/wires/batch-events.ts";
import { cut, cuts, damaged, damagedText, FUZZ_TIMEOUT_MS, fuzz } from "../kit/fuzz.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1 } from "../kit/http-calls.ts";

const MiB = 1024 * 1024;
const OPTIONS = { timeout: FUZZ_TIMEOUT_MS };
describe("bodies of requests", OPTIONS, () => {
  const batch = JSON.stringify({
    api_key: "k",
    sent_at: "2026-09-20T12:00:00Z",
    batch: [{ event: "e", distinct_id: "u", uuid: "x", timestamp: "2026-09-20", properties: { $set: { a: [1] } } }],
  });

  const json = createJsonReading(DEFAULT_LIMITS, false);

  it("/batch/ refuses with a status below 500", async () => {
    await fuzz(damaged([batch, "[]", '{"batch":[{}]}', '{"batch":[{"__proto__":{}}]}']), [Refused], (bytes) => {
      try {
        readEvents(readEnvelope(json, bytes, 10), 1, true);
      } catch (error) {
        if (error instanceof Refused) expect([400, 413]).toContain(error.status);
        throw error;
      }
    });
  });

  it.each(["gzip", "deflate", "br", "zstd"])("%s stays within its bound", async (name) => {
    const samples = await Promise.all([batch, "a".repeat(100_000)].map((text) => encode(name, Buffer.from(text))));
    await fuzz(damaged(samples), [DecodedTooLargeError, UndecodableError], async (bytes) => {
      expect((await decode(name, bytes, 65_536)).length).toBeLessThanOrEqual(65_536);
    });
  });

  it.each(["gzip", "deflate", "br", "zstd"])("a %s bomb costs no more memory than its bound", async (name) => {
    const bomb = await encode(name, Buffer.alloc(48 * MiB));
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 3; i++) await expect(decode(name, bomb, MiB)).rejects.toThrow(DecodedTooLargeError);
    expect(process.memoryUsage().rss - before).toBeLessThan(32 * MiB);
  });
});

describe("requests as a whole", OPTIONS, () => {
  let gateway: TestGateway;
  beforeAll(async () => {
    const settings = { maxBatchBytes: MiB, trustedProxies: ["loopback"], allowedOrigins: ["https://app.example"] };
    gateway = await startTestGateway({ ...settings, publicApiKeys: ["k"] });
  });
  afterAll(() => gateway[Symbol.asyncDispose]());

  const service = "/millrace.events.v1.EventService";
  const plain = Object.values(WIRES).flatMap(({ paths }): readonly string[] => paths);
  const reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
  const rpcs = [`${service}/Publish`, `${service}/PublishStream`, `${service}/Nope`, reflection];
  const paths = fc.constantFrom(...plain.map((path) => path.replace(/\{\w+\}/g, "x")), ...rpcs);
  const types = [
    "application/json",
    "application/proto",
    "application/grpc",
    "application/grpc-web+proto",
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
  ];
  const samples = [
    '{"event_type":"e","source":"s","created_at":"2026-09-20T12:00:00Z"}',
    '{"api_key":"k","batch":[{"event":"e","distinct_id":"u"}]}',
    '{"events":[{"event":"e","distinctId":"u"}]}',
    Buffer.from("000000000a0a080a0165220175", "hex"),
    zlib.gzipSync('{"events":[]}'),
    zlib.gzipSync('[{"event":"e","distinct_id":1,"properties":{"token":"k"},"$set":{"a":1}}]'),
    `data=${encodeURIComponent(btoa('{"token":"k","event":"e","properties":{"distinct_id":"d"}}'))}`,
    '{"type":"identify","event":"e","userId":"u","anonymousId":1.0,"traits":{"a":1},"context":{"page":{"url":"https://a/b"}},"sentAt":"2026-09-20T12:00:00Z"}',
    '{"batch":[{"type":"group","groupId":5,"userId":"u","messageId":"m"},{"type":"alias","previousId":"p","userId":"u"}]}',
    '[{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":1},"ext":"x"}]',
    '{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2026-09-20T12:00:00Z","data_base64":"AA=="}',
    '{"event":"a","distinct_id":1,"properties":{"b":2}}\n{"c":"\\ud800"}\n',
    '{"events":[{"event":"e","time":"2016-12-31T23:59:60Z","value":"1e3","properties":{"\\u0061":[{"b\\\\":1}]}}]}',
    '{"batch":[{"event":"e","uuid":"0192f0c1-2345-7abc-8def-0123456789ab","distinct_id":"d","session_id":"s","options":{"cookieless_mode":true},"properties":{}}]}',
  ];
  const calls = fc.record({
    path: paths,
    type: fc.oneof(
      fc.constant("application/json"),
      fc.constantFrom(...types, "application/connect+proto", "application/connect+json"),
    ),
    encoding: fc.oneof(
      { weight: 6, arbitrary: fc.constant("identity") },
      {
        weight: 1,
        arbitrary: fc.constantFrom("gzip", "zstd", "deflate", "br", "x-gzip, BR", "gzip, gzip", "nonsense"),
      },
    ),
    // Binary mode, and a batch of Tinybird's.
    more: fc.constantFrom<Record<string, string>>(
      {},
      {},
      { "ce-specversion": "1.0", "ce-id": "%e2%82", "ce-source": "s", "ce-type": "t" },
    ),
    body: damaged(samples),
    forwarded: damagedText(["203.0.113.7, 127.0.0.1", "[2001:db8::1]:4711"]).map((text) =>
      text.replaceAll(/[^ -~]/g, ""),
    ),
    // Without one most of them, or no body would be read.
    origin: fc.oneof(
      { weight: 4, arbitrary: fc.constant("") },
      damagedText(["https://app.example"]).map((text) => text.replaceAll(/[^ -~]/g, "").slice(0, 8_000)),
    ),
  });

  it("are answered, and never as the gateway's own fault", async () => {
    let accepted = 0;
    await fuzz(calls, [], async ({ path, type, encoding, body, forwarded, origin, more }) => {
      const headers = {
        ...{ "content-type": type, "content-encoding": encoding, "x-api-key": "k", ...more },
        ...(origin !== "" && { origin }),
        "x-forwarded-for": forwarded.slice(0, 4_000),
      };
      const { status, text } = await callH1(gateway.port, path, { body, headers });
      // 501: an encoding that it does not know. 505: gRPC over HTTP/1.1.
      if (status !== 501 && status !== 505)
        expect([status, text]).toEqual([expect.toSatisfy((s: number) => s < 500), text]);
      if (status < 300) accepted++;
    });
    expect(accepted).toBeGreaterThan(0);
    expect(gateway.lines.filter((line) => line.includes('"level":"error"'))).toEqual([]);
  });
});

describe("the relay's line protocol", OPTIONS, () => {
  it("cuts the same lines wherever packets end, none over its bound", async () => {
    const samples = ["id host token\ngot cpu-load:0.5,mem-used:1e3\nping\n", "add cpu a:b\r\n\n\n", "x".repeat(300)];
    await fuzz(fc.tuple(damaged(samples), cuts), [], ([bytes, shares]) => {
      const whole = linesOf([bytes]);
      expect(linesOf(cut(bytes, shares))).toEqual(whole);
      for (const line of whole.lines) expect(Buffer.byteLength(line)).toBeLessThanOrEqual(3 * 128);
    });
  });

  it("cuts the same lines of any end wherever packets end", async () => {
    const samples = ["id host token\r\ngot cpu-load:0.5\r\nping\r\n", "id a\rping\r\n\rping\r", "id a\nping\r\r\n\r"];
    await fuzz(fc.tuple(damaged(samples), cuts), [], ([bytes, shares]) => {
      expect(linesOf(cut(bytes, shares), "any")).toEqual(linesOf([bytes], "any"));
    });
  });

  function linesOf(chunks: readonly Buffer[], ends: "LF" | "any" = "LF") {
    const splitter = createLineSplitter(128, ends);
    const lines: string[] = [];
    const isWell = chunks.every((chunk) => splitter.push(chunk, (line) => lines.push(line)));
    return { lines, isWell };
  }

  it("items and overrides", async () => {
    await fuzz(damagedText(["cpu-load:0.5", "a-b:-1e308", "c-d:inf"]), [], (text) => {
      const item = parseItem(text);
      if (typeof item !== "string") expect(Number.isFinite(item.value)).toBe(true);
    });
    await fuzz(damagedText(["60 cpu:1,mem:5", "86400 a:3600"]), [], parseOverride);
  });
});

describe("files of an import", OPTIONS, () => {
  const samples = {
    ndjson: ['{"a":1}\n{"b":12345678901234567890}\n\n'],
    json: ['[{"a":1},{"b":["]",{"c":"\\""}]}]'],
    csv: ['a,b\n1,"x ""y""\nz"\n3,4\n', 'a\r\n"1'],
  };

  it.each(["ndjson", "json", "csv"] as const)("%s: the same rows wherever chunks end", async (format) => {
    await fuzz(fc.tuple(damaged(samples[format]), cuts), [], async ([bytes, shares]) => {
      // A byte order mark that is cut through does not happen: files are read in large pieces.
      const pieces = bytes[0] === 0xef ? [bytes] : cut(bytes, shares).filter((piece) => piece.length > 0);
      expect(await rowsOf(format, pieces)).toEqual(await rowsOf(format, [bytes]));
    });
  });

  async function rowsOf(format: "ndjson" | "json" | "csv", chunks: readonly Buffer[]): Promise<unknown[]> {
    async function* given() {
      yield* chunks;
    }
    const parser = createRowParser(format);
    const rows: unknown[] = [];
    try {
      for await (const { content, number } of splitRows(given(), createBoundaries(format))) {
        rows.push([number, content.ok ? parser.parse(content.text) : content.reason]);
      }
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      rows.push(error.message);
    }
    return rows;
  }

  it("dates", async () => {
    const dates = ["2026-01-14T21:55:00.123Z", "01/02/2001 9:55 PM", "1700000000", "20010114", "2026-03-29 02:30"];
    const parse = createTimeParser({ zone: "Europe/Berlin", dateOrder: "dmy" });
    await fuzz(damagedText(dates), [], (text) => [parse(text), parseRfc3339(text), parseDateText(text)]);
  });
});

describe("settings and headers", OPTIONS, () => {
  it("trusted proxies and X-Forwarded-For", async () => {
    const entries = damagedText(["10.0.0.0/8", "2001:db8::/32", "loopback", "::ffff:1.2.3.4/120"]);
    const headers = damagedText(["203.0.113.7, 10.1.1.1", "[2001:db8::1]:4711", "::ffff:10.0.0.1,,"]);
    await fuzz(fc.tuple(fc.array(entries, { maxLength: 3 }), headers), [], ([list, header]) => {
      const proxies = createTrustedProxies([...list.filter((entry) => proxyFault(entry) === undefined), "10.0.0.0/8"]);
      const client = proxies.clientOf("::ffff:10.0.0.1", header);
      expect(client.length).toBeLessThanOrEqual(60);
      return [storedAddress(client, "truncate"), networkOf(client, 3)];
    });
  });

  it("origins: what is allowed is on the list, word for word", async () => {
    const origins = damagedText(["https://app.example", "capacitor://localhost", "null", "https://*.example"]);
    await fuzz(fc.tuple(fc.array(origins, { maxLength: 4 }), origins), [], ([list, origin]) => {
      if (createOrigins(list).allows(origin)) expect(list).toContain(origin);
    });
  });

  it("settings from anywhere give a configuration or faults", async () => {
    const { bytes, count, csv, duration, flag, httpUrl, identifier, oneOf, port, secret, text } = kinds;
    const shape = {
      size: bytes(1),
      many: count(1),
      list: csv(),
      wait: duration("1s"),
      beat: duration("1s", { bareUnit: "s" }),
    };
    const more = { on: flag(false), url: httpUrl(), name: identifier("a"), word: oneOf(["a", "b"], "a"), at: port(1) };
    const schema = z.object({ ...shape, ...more, key: secret(), note: text() });
    const values = damagedText(["8MiB", "1m30s", "60", "a,b", "https://h:1/x", "true", "1e3"]);
    const file = damagedText([
      'size: 8MiB\nwait: 1s\nlist: [a, "b"]\n',
      '{"url":"http://h"}',
      "a: &a [*a]\nb: *a",
      "? [\n- !!x",
    ]);
    const names = ["SIZE", "MANY", "LIST", "WAIT", "BEAT", "ON", "URL", "NAME", "WORD", "AT", "NOTE"];
    const environment = fc.dictionary(fc.constantFrom(...names), values);
    const argv = fc.array(damagedText(["--size=1", "--wait", "--no-on", "--at=x"]), { maxLength: 3 });
    await fuzz(fc.tuple(environment, argv, file), [], ([env, args, content]) => {
      const given = {
        argv: args,
        env: { ...env, KEY: "s3cret-mark", CONFIG_FILE: "f.yaml" },
        readFile: () => content.slice(0, 4_000),
      };
      const outcome = parseConfig(schema, { ...given, command: "test", summary: "" });
      if (outcome.kind !== "config") expect(outcome.text).not.toContain("s3cret-mark");
    });
  });
});

it("statements for ClickHouse are read or refused, and what is refused stays so behind comments", OPTIONS, async () => {
  const sql = [
    "SELECT 1",
    "INSERT INTO t FORMAT JSONEachRow\n{}",
    "SELECT 'a''b', `c` -- d\n",
    "WITH x AS (SELECT 1) SELECT * FROM x",
  ];
  await fuzz(damaged(sql), [ClickHouseError], async (bytes) => assertAllowed(await readStatement(bytes), new Map()));
  await fuzz(damagedText(["/* x */", "-- y\n", " ", "#!z\n"]), [ClickHouseError], async (text) => {
    const statement = await readStatement(Buffer.from(`SELECT ${text} * FROM file('/etc/passwd')`));
    const hidden = !statement.tokens.some((token) => token.text === "file");
    if (!hidden) await expect(assertAllowed(statement, new Map())).rejects.toThrow(ClickHouseError);
  });
});
