// `millrace tail`, GET /v1/tail and TailService: events as they reach the log.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WatchState } from "#gen/millrace/stats/v1/stats_pb.ts";
import { type TailRequestSchema, type TailResponse, TailService } from "#gen/millrace/stats/v1/tail_pb.ts";
import type { OpenLog } from "#lib/eventlog/log.ts";
import { CONSUMER_GROUP, EVENTS_TOPIC } from "#lib/events/topics.ts";
import type { Warehouse } from "#lib/warehouse/warehouse.ts";
import { eventRecord, idOf, poisonRecord } from "../kit/consumer.ts";
import { type EventViewsStage, startEventViews } from "../kit/event-views.ts";
import { memoryLog } from "../kit/stats-live.ts";
import { until } from "../kit/until.ts";

let log: OpenLog;
let views: EventViewsStage;

/** A tail asks ClickHouse nothing. */
const NO_WAREHOUSE = {
  database: "none",
  query: async () => [],
  command: async () => undefined,
  insert: async () => undefined,
  ping: async () => undefined,
  [Symbol.asyncDispose]: async () => undefined,
} as unknown as Warehouse;

beforeAll(async () => {
  log = await memoryLog();
  views = await startEventViews({ log, warehouse: NO_WAREHOUSE });
});
afterAll(async () => {
  await views?.[Symbol.asyncDispose]();
  await log?.[Symbol.asyncDispose]();
});

interface Tailing extends AsyncDisposable {
  readonly messages: TailResponse[];
  readonly names: string[];
  readonly last: TailResponse["status"];
}

/** Resolves when it is live. */
async function tailing(request: MessageInitShape<typeof TailRequestSchema> = {}): Promise<Tailing> {
  const messages: TailResponse[] = [];
  const leaving = new AbortController();
  const reading = (async () => {
    for await (const message of views.client(TailService).tail(request, { signal: leaving.signal }))
      messages.push(message);
  })().catch((error: unknown) => {
    if (!leaving.signal.aborted) throw error;
  });
  const last = () => messages.findLast(({ status }) => status !== undefined)?.status;
  await Promise.race([until(() => last()?.state === WatchState.LIVE, "the tail is live"), reading]);
  return {
    messages,
    get names() {
      return messages.flatMap(({ events }) => events.map(({ event }) => event?.event ?? ""));
    },
    get last() {
      return last();
    },
    async [Symbol.asyncDispose]() {
      leaving.abort();
      await reading;
    },
  };
}

const append = (...events: Parameters<typeof eventRecord>[0][]) =>
  log.append(
    EVENTS_TOPIC,
    events.map((each) => eventRecord(each)),
  );

interface Narrowing {
  events?: string[];
  distinctIds?: string[];
  where?: { key: string; values: string[] }[];
}

describe("a tail", () => {
  it("shows what is appended, with its place, and when it is stored", async () => {
    await using tail = await tailing();
    const [position] = await append({ id: idOf(1), event: "bought", distinctId: "d1", propertiesJson: '{"a":1}' });
    await until(() => tail.names.includes("bought"), "it is shown");
    const shown = tail.messages.flatMap(({ events }) => events)[0];
    expect(shown).toMatchObject({
      position: { topic: EVENTS_TOPIC, partition: 0, offset: BigInt(position?.offset ?? -1) },
      event: { id: idOf(1), distinctId: "d1", propertiesJson: '{"a":1}', isCut: false },
      isStored: false,
    });
    const next = (position?.offset ?? 0) + 1;
    const left = new AbortController();
    const consuming = log.consume({
      ...{ topic: EVENTS_TOPIC, group: CONSUMER_GROUP, signal: left.signal },
      async onAssigned(assignment) {
        await assignment.commit({ offset: next, metadata: "" });
        left.abort();
      },
    });
    await consuming;
    const isStored = () =>
      tail.messages.some(({ stored }) => stored.some(({ nextOffset }) => nextOffset === BigInt(next)));
    await until(isStored, "it is told to be stored");
  });

  it.each<[string, Narrowing, string[]]>([
    ["names", { events: ["a", "b"] }, ["a", "b"]],
    ["distinct ids", { distinctIds: ["d2"] }, ["b"]],
    ["a property", { where: [{ key: "plan", values: ["pro"] }] }, ["a", "b"]],
    ["alternatives", { where: [{ key: "plan", values: ["pro", "free"] }] }, ["a", "b", "c"]],
    ["a number", { where: [{ key: "n", values: ["5"] }] }, ["b"]],
    ["a number beyond a double's digits", { where: [{ key: "big", values: ["9007199254740993"] }] }, ["c"]],
    ["a number as it was sent", { where: [{ key: "big", values: ["1.50"] }] }, ["b"]],
    ["nothing within a number", { where: [{ key: "big.rawJSON", values: ["1.50"] }] }, []],
    ["a nested one", { where: [{ key: "cart.items", values: ["2"] }] }, ["c"]],
    ["one with a dot in its name", { where: [{ key: "x.y", values: ["true"] }] }, ["d"]],
    ["an absent one", { where: [{ key: "plan", values: [""] }] }, ["d"]],
    ["what every object has", { where: [{ key: "__proto__.constructor.name", values: ["Object"] }] }, []],
    ["all of them together", { events: ["a", "c"], where: [{ key: "plan", values: ["pro"] }] }, ["a"]],
  ])("is narrowed by %s, also in what is there already", async (_, request, wanted) => {
    await append(
      { event: "a", distinctId: "d1", propertiesJson: '{"plan":"pro","big":9007199254740992}' },
      { event: "b", distinctId: "d2", propertiesJson: '{"plan":"pro","n":5,"big":1.50}' },
      { event: "c", distinctId: "d1", propertiesJson: '{"plan":"free","cart":{"items":2},"big":9007199254740993}' },
      { event: "d", distinctId: "d1", propertiesJson: '{"x.y":true}' },
      { event: "end", distinctId: "d2", propertiesJson: '{"plan":"pro","n":5,"end":1}' },
    );
    await using tail = await tailing({ ...request, recent: 5 });
    await append({ event: "a", distinctId: "d9", propertiesJson: '{"plan":"other"}' });
    const names = () => tail.names.filter((name) => name !== "end");
    if (wanted.length > 0) await until(() => names().length >= wanted.length, "recent events are shown");
    expect(names().slice(0, wanted.length)).toEqual(wanted);
  });

  it("says how many it passed over when there are too many a second, and what cannot be decoded", async () => {
    await using tail = await tailing({ eventsPerSecond: 10 });
    await append(...Array.from({ length: 300 }, () => ({ event: "many" })));
    await log.append(EVENTS_TOPIC, [poisonRecord]);
    await until(() => Number(tail.last?.passedOver) + tail.names.length >= 300, "all are counted");
    expect(tail.names.length).toBeLessThan(100);
    expect(Number(tail.last?.passedOver)).toBeGreaterThan(200);
    await until(() => tail.last?.skippedRecords === 1n, "the poison record is counted");
  });

  it.each([
    [{ eventsPerSecond: 5_000 }, /events_per_second: is 5000/],
    [{ recent: 5_000 }, /recent: is 5000/],
    [{ where: [{ key: "", values: ["x"] }] }, /where\[0\]\.key/],
    [{ where: [{ key: "plan", values: [] }] }, /where\[0\]\.values/],
    [{ events: Array.from({ length: 101 }, String) }, /events: has 101/],
  ])("is refused by name when the request is wrong %#", async (request, message) => {
    await expect(tailing(request)).rejects.toThrow(message);
  });

  it("is one JSON text a message over SSE", async () => {
    const leaving = new AbortController();
    const path = "/v1/tail?event=sse&where=plan%3Dpro";
    const response = await fetch(views.url + path, { signal: leaving.signal });
    expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    let text = "";
    const reading = (async () => {
      for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) text += chunk;
    })().catch(() => undefined);
    const data = () =>
      text
        .split("\n\n")
        .slice(0, -1)
        .filter((each) => each.startsWith("data: "))
        .map((each) => JSON.parse(each.slice(6)) as { events?: { event: { event: string } }[] });
    await until(() => data().length > 0, "it says how it is");
    await until(async () => {
      await append({ event: "sse", propertiesJson: '{"plan":"pro"}' }, { event: "sse", propertiesJson: "{}" });
      return data().some(({ events }) => events?.some(({ event }) => event.event === "sse"));
    }, "the event is shown");
    leaving.abort();
    await reading;
    const refused = await fetch(`${views.url}/v1/tail?where=plan`);
    expect([refused.status, await refused.json()]).toEqual([
      400,
      { error: expect.stringMatching(/where\[0\]\.values/) },
    ]);
  });
});

describe("millrace tail", () => {
  it("prints a line an event, escapes what callers sent, and ends after --limit", async () => {
    await append({ event: "\u001b[31mred\u202e", distinctId: "a\nb", propertiesJson: '{"k":"\u009b"}' });
    const { out, code } = await views.run("tail", "--limit", "1", "--recent", "1");
    expect(code).toBe(0);
    expect(out).toMatch(/^\d\d:\d\d:\d\d\.\d{3} {2}waiting {2}\\u001b\[31mred\\u202e {2}a\\u000ab {2}/);
    expect(out.trimEnd().split("\n")).toHaveLength(1);
    const json = await views.run("tail", "--limit", "1", "--recent", "1", "--json");
    const harmful = [...json.out.replaceAll("\n", "")].filter(
      (each) => each < " " || each === "\u009b" || each === "\u202e",
    );
    expect(harmful).toEqual([]);
  });

  it.each([
    [["--where", "plan"], /--where plan: expected a property and a value/],
    [["--recent", "2000"], /a whole number, 0 to 1000/],
    [["--per-second", "0"], /a whole number, 1 to 1000/],
  ])("refuses %j with what is expected", async (args, message) => {
    const { code, err } = await views.run("tail", ...args);
    expect([code, err]).toEqual([2, expect.stringMatching(message)]);
  });
});
