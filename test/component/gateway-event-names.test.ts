import { expect, it } from "vitest";
import { KEY, postBatch, SECRET } from "../kit/batch-calls.ts";
import { startTestGateway } from "../kit/gateway.ts";

it("events whose names are too many for their key are stored, counted and warned of", async () => {
  await using gateway = await startTestGateway({ publicApiKeys: [KEY], secretApiKeys: [SECRET], maxEventNames: 3 });
  const named = (name: string) => ({ event: name, distinct_id: "d" });
  const names = ["a", "b", "c", "d", "a", "e"];
  const answer = await postBatch(gateway.port, names.map(named));
  expect(JSON.parse(answer.text)).toEqual({ status: "ok", ingested: 6, dropped: 0 });
  await postBatch(gateway.port, ["x", "y", "z"].map(named), { api_key: SECRET });
  expect((await gateway.events()).map(({ event }) => event)).toEqual([...names, "x", "y", "z"]);
  expect(await gateway.metric("millrace_event_names_over_cap_total")).toBe(2);
  const warnings = gateway.lines.filter((line) => line.includes("different event names"));
  expect(warnings).toEqual([expect.stringContaining('"event":"d","maxEventNames":3')]);
});
