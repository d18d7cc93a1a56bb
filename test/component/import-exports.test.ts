// Exports of product analytics, as docs/switching.md imports them: small invented files of the forms that they have.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { main } from "../../commands/import/main.ts";
import { callCommand } from "../kit/command.ts";
import { startTestGateway } from "../kit/gateway.ts";

const EXPORTS: Record<string, { file: string; rows: object[] }> = {
  Mixpanel: {
    file: "export.ndjson",
    rows: [
      { event: "Sign Up", properties: { time: 1795140000, distinct_id: "m1", $insert_id: "a", plan: "pro" } },
      { event: "Buy", properties: { time: 1795140060, distinct_id: "m1", $insert_id: "b", price: 9.5 } },
    ],
  },
  Amplitude: {
    file: "export.json.gz",
    rows: [
      {
        ...{ event_type: "Sign Up", user_id: "m1", uuid: "a", event_time: "2026-11-20 02:00:00.000000" },
        ...{ event_properties: { plan: "pro" } },
      },
      {
        ...{ event_type: "Buy", user_id: "m1", uuid: "b", event_time: "2026-11-20 02:01:00.000000" },
        ...{ event_properties: { price: 9.5 } },
      },
    ],
  },
  Segment: {
    file: "export.gz",
    rows: [
      {
        ...{ event: "Sign Up", userId: "m1", messageId: "a", timestamp: "2026-11-20T02:00:00.000Z" },
        properties: { plan: "pro" },
      },
      {
        ...{ event: "Buy", userId: "m1", messageId: "b", timestamp: "2026-11-20T02:01:00.000Z" },
        properties: { price: 9.5 },
      },
    ],
  },
  PostHog: {
    file: "export.jsonl",
    rows: [
      {
        ...{ uuid: "0193", event: "Sign Up", distinct_id: "m1", timestamp: "2026-11-20 02:00:00.000000+00:00" },
        properties: { plan: "pro" },
      },
      {
        ...{ uuid: "0194", event: "Buy", distinct_id: "m1", timestamp: "2026-11-20 02:01:00.000000+00:00" },
        properties: { price: 9.5 },
      },
    ],
  },
};

let directory: string;
let recipes: Map<string, string[]>;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "millrace-exports-"));
  const page = await readFile(new URL("../../docs/switching.md", import.meta.url), "utf8");
  const [, table = ""] = page.split("<!-- exports: run by test/component/import-exports.test.ts -->");
  const rows = [...table.matchAll(/^\| (\w+) +\| `(--event-column [^`]*)` +\|$/gm)];
  recipes = new Map(rows.map(([, name = "", args = ""]) => [name, args.split(" ")]));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function importInto(url: string, name: string, file: string, rows: readonly object[]) {
  const path = join(directory, file);
  const text = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
  await writeFile(path, file.endsWith(".gz") ? gzipSync(text) : text);
  const format = /\.(ndjson|jsonl)$/.test(file) ? [] : ["--format", "ndjson"];
  const args = [path, ...(recipes.get(name) ?? []), ...format, "--url", url, "--wait", "0s"];
  return callCommand(main, args, {});
}

describe("an export", () => {
  it("has a recipe for each that is tried", () => {
    expect([...recipes.keys()]).toEqual(Object.keys(EXPORTS));
  });

  it.each(Object.entries(EXPORTS))(
    "of %s keeps name, person, time and properties, and is known again",
    async (name, { file, rows }) => {
      await using gateway = await startTestGateway();
      expect(await importInto(gateway.url, name, file, rows)).toMatchObject({ code: 0, err: "" });
      const events = await gateway.events();
      const shown = events.map(({ event, distinctId, timeUs, propertiesJson }) => {
        return [event, distinctId, Number(timeUs) / 1e6, JSON.parse(Buffer.from(propertiesJson).toString())];
      });
      expect(shown).toEqual([
        ["Sign Up", "m1", 1795140000, { plan: "pro" }],
        ["Buy", "m1", 1795140060, { price: 9.5 }],
      ]);
      // Another file of the same export, in which a row is once more.
      await importInto(gateway.url, name, `again-${file}`, rows.slice(1));
      const [, , again] = await gateway.events();
      expect(again?.id).toEqual(events[1]?.id);
    },
  );

  it("with rows that are no events of a name imports the others and lists these", async () => {
    await using gateway = await startTestGateway();
    const identify = { type: "identify", userId: "m1", messageId: "c", timestamp: "2026-11-20T02:02:00Z", traits: {} };
    const { file, rows } = EXPORTS.Segment as (typeof EXPORTS)[string];
    const { code, err } = await importInto(gateway.url, "Segment", `mixed-${file}`, [identify, ...rows]);
    expect(code).toBe(3);
    expect(err).toContain("refused line 1: event is no name of an event");
    expect((await gateway.events()).map(({ event }) => event)).toEqual(["Sign Up", "Buy"]);
  });
});
