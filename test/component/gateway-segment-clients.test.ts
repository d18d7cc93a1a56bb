// Segment's and RudderStack's libraries for Node against a gateway whose clock and log the test has in its hands: exact times,
// and what a lost answer makes of an event.

import Rudder from "@rudderstack/rudder-sdk-node";
import { Analytics } from "@segment/analytics-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KEY } from "../kit/batch-calls.ts";
import { startTestGateway, type TestGateway } from "../kit/gateway.ts";

/** The gateway's clock stands still, ahead of the libraries'. */
const NOW = Date.now() + 3_600_000;

let gateway: TestGateway;
beforeAll(async () => {
  gateway = await startTestGateway({ publicApiKeys: [KEY] }, () => NOW);
});
afterAll(() => gateway[Symbol.asyncDispose]());

async function eventsOf(user: string) {
  return (await gateway.events()).filter(({ distinctId }) => distinctId === user);
}

/** From now on the next append lands, and its answer is lost: an id of its own would make a second event of what comes again. */
function loseNextAnswer(): void {
  let lost = false;
  gateway.appendBy(async (_records, real) => {
    const positions = await real();
    if (lost) return positions;
    lost = true;
    throw new Error("answer lost");
  });
}

describe("@segment/analytics-node", () => {
  it("has its times corrected by its sentAt to the millisecond", async () => {
    const analytics = new Analytics({ writeKey: KEY, host: gateway.url });
    let sentAt = "";
    analytics.on("http_request", ({ body }) => {
      sentAt = (JSON.parse(String(body)) as { sentAt: string }).sentAt;
    });
    const timestamp = new Date("2026-03-27T12:00:00.250Z");
    analytics.track({ userId: "exact", event: "e", timestamp });
    await analytics.closeAndFlush();
    const us = BigInt(timestamp.getTime() + NOW - Date.parse(sentAt)) * 1000n;
    expect(await eventsOf("exact")).toMatchObject([{ timeUs: us, originalTime: timestamp.toISOString() }]);
  });

  it("sends again what has no answer, and its events keep their ids", async () => {
    const analytics = new Analytics({ writeKey: KEY, host: gateway.url });
    const failures: unknown[] = [];
    analytics.on("error", (error) => failures.push(error));
    loseNextAnswer();
    for (const event of ["a", "b"]) analytics.track({ userId: "again", event });
    await analytics.closeAndFlush();
    gateway.appendBy(undefined);
    const events = await eventsOf("again");
    expect([events.map(({ event }) => event), failures]).toEqual([["a", "b", "a", "b"], []]);
    expect(events.slice(2).map(({ id }) => id)).toEqual(events.slice(0, 2).map(({ id }) => id));
    expect(events.every(({ idFromCaller }) => idFromCaller)).toBe(true);
  });
});

describe("@rudderstack/rudder-sdk-node", () => {
  it("sends again what has no answer, and its event keeps its id and the time that its caller named", async () => {
    const rudder = new Rudder(KEY, { dataPlaneUrl: gateway.url, logLevel: "error" });
    loseNextAnswer();
    const timestamp = new Date("2026-03-27T12:00:00.250Z");
    rudder.track({ userId: "rudder", event: "e", timestamp });
    await rudder.flush();
    gateway.appendBy(undefined);
    const events = await eventsOf("rudder");
    expect(events).toMatchObject(Array(2).fill({ timeUs: BigInt(timestamp.getTime()) * 1000n, originalTime: "" }));
    expect(events[1]?.id).toEqual(events[0]?.id);
  });

  it("hears of a wrong key as an error that it can handle", async () => {
    const errors: unknown[] = [];
    const errorHandler = (error: unknown) => errors.push(error);
    const rudder = new Rudder("who", { dataPlaneUrl: gateway.url, errorHandler } as object);
    rudder.track({ userId: "stranger", event: "e" });
    await rudder.flush();
    expect([errors.length, await eventsOf("stranger")]).toEqual([1, []]);
  });
});
