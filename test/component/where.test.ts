// Where an event is, told alike by the command, GET /v1/receipts and ReceiptService; the other states, and the page:
// test/browser/console-where.test.ts.
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { toJson } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Receipt, ReceiptSchema, ReceiptService, ReceiptState } from "#gen/millrace/stats/v1/receipts_pb.ts";
import { EVENTS_TOPIC } from "#lib/events/topics.ts";
import { createReceipts } from "../../services/stats/receipts/receipts.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { eventRecord, idOf, poisonRecord } from "../kit/consumer.ts";
import { type DeadLetterStage, startDeadLetterStage, valuelessRecord } from "../kit/dead-letters.ts";
import { type EventViewsStage, startEventViews } from "../kit/event-views.ts";

let clickhouse: TestClickHouse;
let stage: DeadLetterStage;
let views: EventViewsStage;

beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  stage = await startDeadLetterStage(clickhouse, "where_states");
  views = await startEventViews(stage, { refusalsFrom: [stage.gatewayUrl] });
});
afterAll(async () => {
  await views?.[Symbol.asyncDispose]();
  await stage?.[Symbol.asyncDispose]();
  await clickhouse?.[Symbol.asyncDispose]();
});

async function where(...ids: string[]): Promise<Receipt[]> {
  return (await views.client(ReceiptService).where({ ids })).receipts;
}

/** The one answer that all three give. */
async function toldAlike(id: string): Promise<Receipt> {
  const [receipt] = await where(id);
  if (!receipt) throw new Error("no receipt");
  const told = toJson(ReceiptSchema, receipt);
  const rest = await fetch(`${views.url}/v1/receipts/${encodeURIComponent(id)}`);
  expect([rest.status, await rest.json()]).toEqual([200, told]);
  expect(JSON.parse((await views.run("where", id, "--json")).out)).toEqual(told);
  const { out, code } = await views.run("where", id);
  expect(out).toBe(`${receipt.id}  ${receipt.text}\n`);
  const { STORED, DUPLICATE, ERASED } = ReceiptState;
  expect(code).toBe(([STORED, DUPLICATE, ERASED] as number[]).includes(receipt.state) ? 0 : 3);
  return receipt;
}

describe("an event", () => {
  it("that nobody sent is never seen, from the first moment on", async () => {
    const receipt = await toldAlike(idOf(999));
    expect(receipt).toMatchObject({ state: ReceiptState.NEVER_SEEN, gaps: [], sightings: [] });
    expect(receipt.text).toMatch(/^Never seen: no event is stored yet/);
  });

  it("waits while the consumer is away, with its place and why, and is stored once it is back", async () => {
    await stage.append(eventRecord(), eventRecord({ id: idOf(1), event: "bought", distinctId: "d1" }));
    const waiting = await toldAlike(idOf(1));
    expect(waiting.state).toBe(ReceiptState.WAITING);
    expect(waiting.sightings[0]).toMatchObject({
      position: { name: stage.nameOf(1), offset: 1n },
      event: { event: "bought", distinctId: "d1" },
      waiting: { recordsAhead: 1n },
    });
    expect(waiting.text).toContain(`Waiting: bought of d1, durable on the log at ${stage.nameOf(1)}`);
    expect((await toldAlike(stage.nameOf(1))).state).toBe(ReceiptState.WAITING);

    stage.startConsumer();
    await stage.drained();
    const stored = await toldAlike(idOf(1));
    expect(stored.state).toBe(ReceiptState.STORED);
    expect(stored.sightings[0]).toMatchObject({
      position: { name: stage.nameOf(1) },
      event: { id: idOf(1), event: "bought", distinctId: "d1", propertiesJson: "{}", isCut: false },
    });
    expect(stored.sightings[0]?.stored).toBeDefined();
    expect(stored.text).toMatch(/^Stored: bought of d1, position \S+:1, received .*, stored [\d.]+ s later\.$/);
    // By position as well, in each form.
    for (const name of [stage.nameOf(1), `${EVENTS_TOPIC}:0:1`, `${stage.epoch}:${EVENTS_TOPIC}:0:1`]) {
      expect((await toldAlike(name)).sightings[0]?.position?.name).toBe(stage.nameOf(1));
    }
    expect((await toldAlike(idOf(999))).since).toBeDefined();
  });

  it("is found where it is stored while the log does not answer", async () => {
    const log = { ...stage.log, epoch: async () => undefined, topicId: () => new Promise<undefined>(() => {}) };
    const refusals = { ask: async () => ({ refused: [], sums: [], gaps: [] }) };
    const receipts = createReceipts({ log, warehouse: stage.warehouse, refusals, whyWaiting: () => "" });
    const [receipt] = await receipts.where([{ kind: "id", text: idOf(1) }]);
    expect(receipt?.state).toBe(ReceiptState.STORED);
  });

  it("sent twice is stored once, and each position says which it is", async () => {
    const again = await stage.end();
    await stage.append(eventRecord({ id: idOf(1), event: "bought", distinctId: "d1" }));
    const receipt = await toldAlike(idOf(1));
    expect(receipt.sightings.map(({ state }) => state)).toEqual([ReceiptState.STORED, ReceiptState.DUPLICATE]);
    expect(receipt.text).toContain("Sent again once, stored once.");
    const duplicate = await toldAlike(stage.nameOf(again));
    expect(duplicate).toMatchObject({ state: ReceiptState.DUPLICATE });
    expect(duplicate.sightings[0]?.first?.name).toBe(stage.nameOf(1));
  });

  it("that cannot be stored is a dead letter with the command that replays it", async () => {
    const at = await stage.end();
    await stage.append(valuelessRecord({ id: idOf(3), event: "bad" }), poisonRecord);
    const letter = await toldAlike(idOf(3));
    expect(letter.state).toBe(ReceiptState.DEAD_LETTER);
    expect(letter.sightings[0]?.letter).toEqual(
      expect.objectContaining({
        ...{ errorClass: "undecodable", reason: "the value is NaN" },
        replay: `millrace dead-letters replay ${stage.nameOf(at)}`,
      }),
    );
    // Bytes without an id are found by their position.
    expect((await toldAlike(stage.nameOf(at + 1))).state).toBe(ReceiptState.DEAD_LETTER);
    // The command it names does what it says.
    const name = letter.sightings[0]?.letter?.replay.split(" ").at(-1) ?? "";
    await stage.run("replay", name, "--set", "value=1");
    await stage.drained();
    expect((await toldAlike(idOf(3))).sightings.map(({ state }) => state)).toEqual([
      ReceiptState.STORED,
      ReceiptState.DEAD_LETTER,
    ]);
  });

  it("that a gateway refused is told with reason and field, and without what was in it", async () => {
    const secret = "do not keep this";
    const event = {
      id: idOf(4),
      event: "x".repeat(300),
      distinctId: secret,
      propertiesJson: JSON.stringify({ secret }),
    };
    const answer = await fetch(`${stage.gatewayUrl}/millrace.events.v1.EventService/Publish`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ events: [event] }),
    });
    expect(await answer.json()).toMatchObject({ rejected: [{ code: "REJECTION_CODE_TOO_LARGE" }] });
    const receipt = await toldAlike(idOf(4));
    expect(receipt.state).toBe(ReceiptState.REFUSED);
    expect(receipt.refusals[0]).toMatchObject({ reason: "too_large", field: "event", retryable: false });
    expect(receipt.text).toContain("It never reached the log.");
    const kept = await fetch(`${stage.gatewayUrl}/admin/refused`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ids: [idOf(4)] }),
    });
    expect(await kept.text()).not.toContain(secret);
  });

  it.each([
    [
      "/events",
      { id: idOf(20), event_type: " ", source: "s", created_at: "2026-03-27T12:00:00Z" },
      20,
      "invalid",
      "event_type",
    ],
    ["/events", { id: idOf(21), event_type: "e", source: "s", created_at: "today" }, 21, "invalid", "created_at"],
    ["/batch/", { api_key: "k", batch: [{ uuid: idOf(22), event: 5, distinct_id: "d" }] }, 22, "invalid", "event"],
    [
      "/batch",
      { api_key: "k", batch: [{ uuid: idOf(23), event: "e", distinct_id: "d", timestamp: "x" }] },
      23,
      "invalid",
      "timestamp",
    ],
    ["/e/", { api_key: "k", uuid: idOf(24), event: "e" }, 24, "missing", "distinct_id"],
  ])("refused on %s as a whole is told as well", async (path, body, n, reason, field) => {
    const headers = { "content-type": "application/json" };
    const answer = await fetch(stage.gatewayUrl + path, { method: "POST", headers, body: JSON.stringify(body) });
    expect(answer.status).toBeGreaterThanOrEqual(400);
    const [receipt] = await where(idOf(n));
    expect(receipt?.refusals.map((each) => [each.reason, each.field])).toEqual([[reason, field]]);
  });
});

describe("many at once", () => {
  it("are read from a file, and answered in its order", async () => {
    await stage.append(eventRecord({ id: idOf(2), event: "filler" }));
    const file = join(stage.env.DATA_DIR ?? "", "ids.txt");
    await writeFile(
      file,
      `# ids\r\n${idOf(1)}\r\n"${idOf(2).toUpperCase()}", bought\n\n${idOf(4).replaceAll("-", "")}\n`,
    );
    const { out, code } = await views.run("where", "--file", file, "--json");
    const told = out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { id: string; state: string });
    expect(told.map(({ id, state }) => [id, state.replace("RECEIPT_STATE_", "")])).toEqual([
      [idOf(1), "STORED"],
      [idOf(2), "STORED"],
      [idOf(4), "REFUSED"],
    ]);
    expect(code).toBe(3);
    const missing = await views.run("where", "--file", "/nowhere/ids");
    expect([missing.code, missing.err]).toEqual([1, "where: --file /nowhere/ids: cannot be read (ENOENT)\n"]);
  });

  it.each([
    [["nonsense"], /ids\[0\]: nonsense is neither the UUID of an event nor a position/],
    [["millrace.points:0:1"], /is not of millrace\.events/],
    [[], /ids: is empty/],
    [Array.from({ length: 1_001 }, (_, n) => idOf(n)), /at most 1000/],
  ])("are refused by name when one is wrong %#", async (ids, message) => {
    await expect(where(...ids)).rejects.toThrow(message);
  });
});

it("an acknowledged event is never called never seen, at whatever moment it is asked for", async () => {
  const answers: { id: string; state: ReceiptState }[] = [];
  const ask = async (ids: string[]) => {
    for (const { id, state } of await where(...ids)) answers.push({ id, state });
  };
  const asking: Promise<void>[] = [];
  for (let round = 0; round < 16; round++) {
    const ids = Array.from({ length: 5 }, () => randomUUID());
    await stage.log.append(
      EVENTS_TOPIC,
      ids.map((id) => eventRecord({ id })),
    );
    asking.push(ask(ids));
    if (round % 2 === 1) await Promise.all(asking);
  }
  await Promise.all(asking);
  expect(answers).toHaveLength(80);
  const fine: ReceiptState[] = [ReceiptState.STORED, ReceiptState.WAITING];
  expect(answers.filter(({ state }) => !fine.includes(state))).toEqual([]);
});

describe("who may ask", () => {
  it("needs the token or a secret key where there is one, and a page of another origin may not where there is none", async () => {
    const ask = (url: string, headers: Record<string, string>) =>
      fetch(`${url}/v1/receipts/${idOf(1)}`, { headers }).then(({ status }) => status);
    expect(await ask(views.url, { origin: "https://evil.example" })).toBe(403);
    expect(await ask(views.url, { origin: views.url })).toBe(200);
    await using closed = await startEventViews(stage, {
      statsToken: "t",
      secretApiKeys: ["s", "p"],
      publicApiKeys: ["p"],
    });
    const statuses = ["t", "s", "p", "x"].map((key) => ask(closed.url, { authorization: `Bearer ${key}` }));
    expect(await Promise.all([...statuses, ask(closed.url, {})])).toEqual([200, 200, 401, 401, 401]);
    await expect(closed.client(ReceiptService, "p").where({ ids: [idOf(1)] })).rejects.toThrow(/unauthenticated/);
  });
});

describe("answers to who publishes", () => {
  const send = async (path: string, body: unknown, headers: Record<string, string> = {}) => {
    const answer = await fetch(stage.gatewayUrl + path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
    return (await answer.json()) as { position?: string; positions?: string[] };
  };
  const single = { id: idOf(40), event_type: "e", source: "s", created_at: "2026-03-27T12:00:00Z" };
  const events = [
    { id: idOf(41), event: "e" },
    { id: idOf(42), event: "" },
    { id: idOf(43), event: "e" },
  ];
  const publish = "/millrace.events.v1.EventService/Publish";

  it("say where each event is when they are asked to, and where takes what they say", async () => {
    const asked = { "x-millrace-positions": "true" };
    const { position = "" } = await send("/events", single, asked);
    const { positions = [] } = await send(publish, { events, returnPositions: true });
    expect(positions).toEqual([expect.stringMatching(/^millrace\.events:0:\d+$/), "", expect.any(String)]);
    const receipts = await where(position, positions[0] ?? "", positions[2] ?? "");
    expect(receipts.map(({ sightings }) => sightings[0]?.event?.id)).toEqual([idOf(40), idOf(41), idOf(43)]);
  });

  it("are as they were when they are not", async () => {
    expect(await send("/events", { ...single, id: idOf(44) })).toEqual({ status: "accepted" });
    expect(await send(publish, { events: [{ id: idOf(45), event: "e" }] })).toEqual({ accepted: 1 });
  });
});
