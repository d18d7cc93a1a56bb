// What the warehouse's requests look like on their way, where proxies and older servers meet them.
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { createClickHouseWarehouse } from "#lib/warehouse/clickhouse.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { idOf } from "../kit/consumer.ts";

interface Answer {
  status: number;
  headers?: Record<string, string>;
  body: string;
}

const LINE_BYTES_MAX = 8000;
const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]();
});

/** A server that answers as told, and what it was asked. */
async function serve(answer: (url: URL, body: string) => Answer): Promise<{ warehouse: Warehouse; lines: string[] }> {
  const lines: string[] = [];
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      lines.push(request.url ?? "");
      const body = Buffer.concat(chunks).toString();
      const { status, headers, body: text } = answer(new URL(request.url ?? "", "http://server"), body);
      response.writeHead(status, headers).end(text);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const warehouse = createClickHouseWarehouse({ url, user: "default", password: "", database: "d" });
  open.push(warehouse, {
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
    },
  });
  return { warehouse, lines };
}

function insert(warehouse: Warehouse): Promise<void> {
  return warehouse.insert({ table: "t", columns: ["a"], rows: Buffer.from("[1]\n"), token: "k" });
}

describe("a question with many parameters", () => {
  it.each([1, 50, 1000, 5000])("of %i ids has a request line that every proxy takes", async (count) => {
    let body = "";
    const { warehouse, lines } = await serve((_, text) => {
      body = text;
      return { status: 200, body: "" };
    });
    const uuids = Array.from({ length: count }, (_, n) => idOf(n));
    await warehouse.query("SELECT 1 WHERE u IN {uuids:Array(UUID)} AND t = {topic:String}", {
      params: { uuids, topic: "t" },
    });
    expect(lines.map((line) => line.length > LINE_BYTES_MAX)).toEqual([false]);
    const sent = `${decodeURIComponent((lines[0] as string).replaceAll("+", " "))}${body}`;
    for (const id of [uuids[0], uuids.at(-1)]) expect(sent).toContain(id);
  });
});

describe("an answer that is not ClickHouse's", () => {
  it.each([414, 431, 403, 502])("%i is named as one, and its text is kept", async (status) => {
    const { warehouse } = await serve(() => ({ status, body: "<h1>nginx says no</h1>" }));
    const failed = await insert(warehouse).catch((error: unknown) => error);
    expect(failed).toMatchObject({ kind: "transient", code: undefined, isForeign: true });
    expect(failed).toMatchObject({ message: expect.stringContaining("the answer is not ClickHouse's") });
    expect(failed).toMatchObject({ cause: { message: expect.stringContaining("nginx says no") } });
  });
});

describe("settings that came later", () => {
  it("are sent, and left out on a server that does not know them, from then on", async () => {
    const known = new Set(["insert_deduplicate", "use_strict_insert_block_limits"]);
    const newer = ["deduplicate_insert", "max_insert_block_size_bytes", "input_format_max_block_size_bytes"];
    const { warehouse, lines } = await serve((url) => {
      const unknown = newer.find((name) => url.searchParams.has(name) && !known.has(name));
      if (unknown === undefined) return { status: 200, body: "" };
      const body = `Code: 115. DB::Exception: Setting ${unknown} is neither a builtin setting nor started with the prefix. (UNKNOWN_SETTING)`;
      return { status: 404, headers: { "x-clickhouse-exception-code": "115" }, body };
    });
    await insert(warehouse);
    expect(lines[0]).toContain("deduplicate_insert=enable");
    expect(lines).toHaveLength(newer.length + 1);
    await insert(warehouse);
    expect(lines).toHaveLength(newer.length + 2);
    expect(lines.at(-1)).toContain("use_strict_insert_block_limits=0");
    expect(lines.at(-1)).not.toContain("deduplicate_insert=");
  });

  it("another refusal is the caller's", async () => {
    const { warehouse, lines } = await serve(() => ({
      status: 404,
      body: "Code: 115. DB::Exception: Unknown setting 'async_insert'. (UNKNOWN_SETTING)",
    }));
    await expect(insert(warehouse)).rejects.toMatchObject({ code: 115 });
    expect(lines).toHaveLength(1);
  });
});
