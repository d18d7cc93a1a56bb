// posthog-node as it comes from npm, told only the gateway's address and a key.
import { PostHog } from "posthog-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KEY } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway({ publicApiKeys: [KEY] });
});
afterAll(() => gateway[Symbol.asyncDispose]());

const client = (disableCompression: boolean) =>
  new PostHog(KEY, { host: gateway.url, flushAt: 100, flushInterval: 60_000, disableCompression, fetchRetryDelay: 20 });

describe.each([
  ["compressed", false],
  ["plain", true],
])("%s", (_case, disableCompression) => {
  it("captures, identifies and aliases, and its events are on the log once flushed", async () => {
    const before = (await gateway.stored()).length;
    const posthog = client(disableCompression);
    const timestamp = new Date("2026-03-27T12:00:00Z");
    posthog.capture({ distinctId: "u1", event: "signup", properties: { plan: "pro", $session_id: "s1" }, timestamp });
    posthog.identify({ distinctId: "u1", properties: { email: "a@example.com" } });
    posthog.alias({ distinctId: "u1", alias: "anon" });
    await posthog.flush();
    const events = (await gateway.events()).slice(before);
    expect(
      events.map(({ event, distinctId, apiKey, idFromCaller }) => [event, distinctId, apiKey, idFromCaller]),
    ).toEqual([
      ["signup", "u1", KEY, true],
      ["$identify", "u1", KEY, true],
      ["$create_alias", "u1", KEY, true],
    ]);
    const properties = events.map((each) => JSON.parse(Buffer.from(each.propertiesJson).toString()) as object);
    expect(properties[0]).toMatchObject({ plan: "pro", $lib: "posthog-node" });
    expect(properties[1]).toMatchObject({ $set: { email: "a@example.com" } });
    expect(properties[2]).toMatchObject({ alias: "anon" });
    expect(events[0]?.sessionId).toBe("s1");
    expect([events[0]?.timeUs, events[0]?.originalTime]).toEqual([BigInt(timestamp.getTime()) * 1000n, ""]);
    await posthog.shutdown();
  });
});

it("sends its events again, with the same ids, when the log was away", async () => {
  const before = (await gateway.stored()).length;
  const posthog = client(true);
  posthog.capture({ distinctId: "u2", event: "kept" });
  const appendsBefore = gateway.appends.length;
  // The first append lands and its answer is lost, which is when a second id would be a second event.
  gateway.appendBy(async (_records, real) => {
    const positions = await real();
    if (gateway.appends.length === appendsBefore + 1) throw new Error("answer lost");
    return positions;
  });
  await posthog.flush();
  gateway.appendBy(undefined);
  const [first, second, ...more] = (await gateway.events()).slice(before);
  expect([first?.event, second?.event, more]).toEqual(["kept", "kept", []]);
  expect(first?.idFromCaller).toBe(true);
  expect(second?.id).toEqual(first?.id);
  await posthog.shutdown();
});
