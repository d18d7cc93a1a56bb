// CloudEvents 1.0 in its three forms, by hand and as the packages cloudevents and @openmeter/sdk send them.
import { OpenMeter } from "@openmeter/sdk";
import { CloudEvent, emitterFor, httpTransport, Mode } from "cloudevents";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatUuid, parseUuid, uuidV5 } from "#lib/events/ids.ts";
import { jsonOf, KEY } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";
import { callH1 } from "../kit/http-calls.ts";

const NAMESPACE = parseUuid("1f9cc9ca-1384-4cc2-b8f1-c5253d70b642") as Uint8Array;
const idOf = (source: string, id: string) => formatUuid(uuidV5(NAMESPACE, `${source} ${id}`));

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway({ publicApiKeys: [KEY], maxEventsPerBatch: 20 });
});
afterAll(() => gateway[Symbol.asyncDispose]());

async function storedBy<T>(call: () => Promise<T>) {
  const before = (await gateway.stored()).length;
  const answer = await call();
  const events = (await gateway.events()).slice(before).map(({ propertiesJson, id, ...event }) => ({
    ...event,
    id: formatUuid(id),
    text: Buffer.from(propertiesJson).toString(),
    properties: JSON.parse(Buffer.from(propertiesJson).toString()) as object,
  }));
  return { answer, events };
}

const BEARER = { authorization: `Bearer ${KEY}` };
const TYPES = {
  structured: "application/cloudevents+json; charset=utf-8",
  batch: "application/cloudevents-batch+json",
};
const EVENT = { specversion: "1.0", id: "1", source: "/shop", type: "order.paid" };

function post(path: string, body: unknown, headers: Record<string, string>) {
  const bytes = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
  return storedBy(() => callH1(gateway.port, path, { headers: { ...BEARER, ...headers }, body: bytes }));
}

describe.each(["/events", "/cloudevents", "/api/v1/events"])("POST %s", (path) => {
  it("structured", async () => {
    const event = {
      ...EVENT,
      ...{
        subject: "u1",
        time: "2026-03-27T12:00:00.123456Z",
        datacontenttype: "application/json",
        traceparent: "00-1",
      },
      ...{ count: 7, dataschema: null },
    };
    const body = JSON.stringify(event).replace(/}$/, ',"data":{"n":1.50,"ce_id":"own"}}');
    const { answer, events } = await post(path, body, { "content-type": TYPES.structured });
    expect([answer.status, answer.text]).toEqual([204, ""]);
    expect(events).toMatchObject([
      {
        event: "order.paid",
        distinctId: "u1",
        source: "/shop",
        id: idOf("/shop", "1"),
        idFromCaller: true,
        apiKey: KEY,
      },
    ]);
    expect(events[0]?.timeUs).toBe(1_774_612_800_123_456n);
    const extensions = { ce_datacontenttype: "application/json", ce_traceparent: "00-1", ce_count: 7 };
    expect(events[0]?.properties).toEqual({ n: 1.5, ce_id: "own", ...extensions });
    expect(events[0]?.text).toContain('"n":1.50');
  });

  it("of one id in sources with and without spaces are different events", async () => {
    const events = [
      { ...EVENT, source: "a b", id: "c" },
      { ...EVENT, source: "a", id: "b c" },
      { ...EVENT, source: "a b c", id: "d" },
    ];
    const stored = (await post(path, events, { "content-type": TYPES.batch })).events;
    expect(stored.map(({ source, id }) => [source, id])).toEqual([
      ["a b", idOf("a%20b", "c")],
      ["a", idOf("a", "b c")],
      ["a b c", idOf("a%20b%20c", "d")],
    ]);
  });

  it("binary with quoted attributes, as RFC 7230 has them", async () => {
    const headers = {
      ...{ "ce-specversion": '"1.0"', "ce-id": '"q 1"', "ce-source": "/shop", "ce-type": '"t"' },
      ...{ "ce-subject": '"J%C3%BCrgen \\"J\\\\\\""', "ce-open": '"a' },
    };
    const { answer, events } = await post(path, "", headers);
    expect(answer.status).toBe(204);
    expect(events).toMatchObject([{ event: "t", distinctId: 'Jürgen "J\\"', id: idOf("/shop", "q 1") }]);
    expect(events[0]?.properties).toEqual({ ce_id: "q 1", ce_open: '"a' });
  });

  it("in a batch, of which the events at fault are named", async () => {
    const batch = [EVENT, { ...EVENT, id: "" }, 5, { ...EVENT, id: "2", data: [1] }];
    const { answer, events } = await post(path, batch, { "content-type": TYPES.batch });
    expect([answer.status, jsonOf(answer)]).toMatchObject([
      200,
      {
        accepted: 2,
        rejected: [
          { index: 1, code: "missing", field: "id" },
          { index: 2, code: "invalid" },
        ],
      },
    ]);
    expect(events.map(({ properties }) => properties)).toEqual([{ ce_id: "1" }, { data: [1], ce_id: "2" }]);
  });

  it.each([
    ["application/json", '{"n":1}', { n: 1 }],
    ["application/vnd.shop+json", "5", { data: 5 }],
    ["text/plain", "häh", { data: "häh", ce_datacontenttype: "text/plain" }],
    ["application/xml", "<a/>", { data_base64: "PGEvPg==", ce_datacontenttype: "application/xml" }],
    ["", "", {}],
  ])("binary with data of type %j", async (type, body, data) => {
    const attributes = {
      "ce-specversion": "1.0",
      "ce-id": "b",
      "ce-source": "/shop",
      "ce-type": "t",
      "ce-subject": "J%C3%BCrgen",
    };
    const headers = { ...attributes, "ce-tenant": "a%20b", ...(type !== "" && { "content-type": type }) };
    const { answer, events } = await post(path, body, headers);
    expect(answer.status).toBe(204);
    expect(events).toMatchObject([{ event: "t", distinctId: "Jürgen", id: idOf("/shop", "b") }]);
    expect(events[0]?.properties).toEqual({ ...data, ce_id: "b", ce_tenant: "a b" });
  });
});

describe("refusals", () => {
  it.each([
    ["no specversion", { ...EVENT, specversion: undefined }, "specversion: must be"],
    ["another specversion", { ...EVENT, specversion: "0.3" }, 'specversion: must be "1.0", and is "0.3"'],
    ["no id", { ...EVENT, id: undefined }, "id: must not be empty"],
    ["an id that is a number", { ...EVENT, id: 5 }, "id: must be a string, not a number"],
    ["a blank source", { ...EVENT, source: " " }, "source: must not be blank"],
    ["no type", { ...EVENT, type: undefined }, "type: must not be blank"],
    ["a time without a zone", { ...EVENT, time: "2026-03-27 12:00:00" }, "time: "],
    ["no object", 5, "body: must be an object, not a number"],
    ["no JSON", "{", "body: is not JSON"],
    ["nothing", "", "body: is not JSON"],
  ])("of %s", async (_case, body, message) => {
    const { answer, events } = await post("/events", body, { "content-type": TYPES.structured });
    expect([answer.status, jsonOf(answer), events]).toMatchObject([
      400,
      { error: expect.stringContaining(message) as string },
      [],
    ]);
  });

  it("of binary data that is not JSON, of too many, of a stranger, of another method", async () => {
    const binary = {
      "ce-specversion": "1.0",
      "ce-id": "b",
      "ce-source": "/s",
      "ce-type": "t",
      "content-type": "application/json",
    };
    expect((await post("/events", "{", binary)).answer.status).toBe(400);
    expect((await post("/events", Array(21).fill(EVENT), { "content-type": TYPES.batch })).answer.status).toBe(413);
    expect(
      (await post("/events", EVENT, { "content-type": TYPES.structured, authorization: "Bearer who" })).answer.status,
    ).toBe(401);
    expect((await callH1(gateway.port, "/cloudevents", { method: "GET", headers: BEARER })).status).toBe(405);
  });

  it("an id of 10 KB is one like others, and an empty batch is nothing", async () => {
    const { events } = await post(
      "/events",
      { ...EVENT, id: "i".repeat(10_000) },
      { "content-type": TYPES.structured },
    );
    expect(events.map(({ id }) => id)).toEqual([idOf("/shop", "i".repeat(10_000))]);
    expect((await post("/events", [], { "content-type": TYPES.batch })).answer.status).toBe(204);
  });
});

it("the single events of /events are what they were", async () => {
  const event = { event_type: "e", source: "s", user_id: "u", created_at: "2026-03-27T12:00:00Z" };
  const { answer } = await post("/events", event, { "content-type": "application/json" });
  expect([answer.status, jsonOf(answer)]).toEqual([200, { status: "accepted" }]);
});

describe("the packages of npm, as they are", () => {
  it.each([Mode.STRUCTURED, Mode.BINARY])("cloudevents, %s", async (mode) => {
    const emit = emitterFor(httpTransport(`${gateway.url}/events`), { mode });
    const event = new CloudEvent({ type: "t", source: "/npm", subject: "u", data: { a: [1] }, tenant: "acme" });
    const { events } = await storedBy(() => emit(event, { headers: BEARER }));
    expect(events).toMatchObject([{ event: "t", distinctId: "u", source: "/npm", id: idOf("/npm", event.id) }]);
    expect(events[0]?.timeUs).toBe(BigInt(Date.parse(event.time as string)) * 1000n);
    expect(events[0]?.properties).toMatchObject({ a: [1], ce_id: event.id, ce_tenant: "acme" });
  });

  it("@openmeter/sdk", async () => {
    const openmeter = new OpenMeter({ baseUrl: gateway.url, apiKey: KEY });
    const time = new Date("2026-03-27T12:00:00.250Z");
    const one = { id: "om-1", source: "api", type: "request", subject: "customer-1", time, data: { tokens: 20 } };
    const { events } = await storedBy(async () => {
      await openmeter.events.ingest(one);
      await openmeter.events.ingest([one, { type: "request", subject: "customer-2", data: { tokens: "1" } }]);
    });
    expect(events.map(({ event, distinctId }) => [event, distinctId])).toEqual([
      ["request", "customer-1"],
      ["request", "customer-1"],
      ["request", "customer-2"],
    ]);
    expect(events.slice(0, 2).map(({ id }) => id)).toEqual([idOf("api", "om-1"), idOf("api", "om-1")]);
    expect(events[0]).toMatchObject({ timeUs: BigInt(time.getTime()) * 1000n, properties: { tokens: 20 } });
  });
});
