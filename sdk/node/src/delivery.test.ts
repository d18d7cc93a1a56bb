// What a request's failure means for its events.
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import type { EventRejection, Outcome, PublishCall } from "./call.ts";
import { createDelivery } from "./delivery.ts";
import { joinFrames } from "./frames.ts";

/** One event of so many bytes, and what became of it: each outcome is answered once, then it is taken. */
async function deliver(bytes: number, outcomes: Outcome[]) {
  let requests = 0;
  const call: PublishCall = async () => {
    requests++;
    return outcomes.shift() ?? { kind: "verdicts", rejected: [] };
  };
  const delivery = createDelivery({ call, backoffMs: { base: 0, max: 0 }, onRetry: () => {} });
  const verdicts: (EventRejection | undefined)[] = [];
  await delivery(joinFrames([new Uint8Array(bytes)]), {
    signal: new AbortController().signal,
    checkStored: false,
    holdsRefused: true,
    keepsAlive: true,
    onVerdict: (_index, rejection) => verdicts.push(rejection),
  });
  return { requests, verdicts };
}

const exhausted = (isCertain: boolean): Outcome => ({
  kind: "too large",
  error: new ConnectError("over the limit", Code.ResourceExhausted, { server: "envoy" }),
  isCertain,
});

describe("RESOURCE_EXHAUSTED without a time to wait, as a proxy's rate limit answers", () => {
  it.each([100, 64 * 1024, 128 * 1024, 700_000])("costs no event of %d bytes", async (bytes) => {
    const { requests, verdicts } = await deliver(bytes, [exhausted(false), exhausted(false)]);
    expect({ requests, verdicts }).toEqual({ requests: 3, verdicts: [undefined] });
  });

  it("says of an event that is near what a gateway takes that it is too large", async () => {
    const { requests, verdicts } = await deliver(890_000, [exhausted(false)]);
    expect(requests).toBe(1);
    expect(verdicts[0]?.code).toBe("too_large");
  });

  it("says so of any event where the answer was about its size", async () => {
    const { verdicts } = await deliver(100, [exhausted(true)]);
    expect(verdicts[0]?.code).toBe("too_large");
  });
});
