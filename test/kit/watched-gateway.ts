// A gateway that each test of a file must leave healthy.
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { startTestGateway, type TestGateway } from "./gateway.ts";
import { connectH1, type OneConnection } from "./http-calls.ts";

export const PUBLISH = "/millrace.events.v1.EventService/Publish";
export const STREAM = "/millrace.events.v1.EventService/PublishStream";
export const JSON_TYPE = { "content-type": "application/json" };
export const GOOD = JSON.stringify({ events: [{ event: "good" }] });

/**
 * A gateway for the tests of a file. After each one a connection beside it is served as if nothing had been, no bytes are
 * held, and nothing above info was logged.
 */
export function watchGateway(): { readonly gateway: TestGateway; readonly neighbour: OneConnection } {
  const watched: { gateway?: TestGateway; neighbour?: OneConnection } = {};
  const now = () => watched as Required<typeof watched>;

  beforeAll(async () => {
    const gateway = await startTestGateway({ headersTimeout: 400, requestTimeout: 800 });
    Object.assign(watched, { gateway, neighbour: connectH1(gateway.port) });
  });
  afterEach(async () => {
    const { gateway, neighbour } = now();
    const answer = await neighbour.call(PUBLISH, { headers: JSON_TYPE, body: GOOD });
    expect([answer.status, answer.text]).toEqual([200, '{"accepted":1}']);
    await expect.poll(() => gateway.metric("millrace_gateway_in_flight_bytes")).toBe(0);
    expect(gateway.lines.filter((line) => !line.includes('"level":"info"'))).toEqual([]);
  });
  afterAll(async () => {
    now().neighbour[Symbol.dispose]();
    await now().gateway[Symbol.asyncDispose]();
  });
  return {
    get gateway() {
      return now().gateway;
    },
    get neighbour() {
      return now().neighbour;
    },
  };
}
