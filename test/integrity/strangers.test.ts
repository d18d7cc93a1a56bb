// A caller with a key beside strangers doing their worst: it is refused nothing. How long it waits is what `npm run strangers`
// measures, on a machine that does nothing else.
import { expect, it } from "vitest";
import { patience } from "../kit/patience.ts";
import { runStrangers } from "../kit/strangers.ts";

it("is refused nothing", { timeout: patience(60_000) }, async () => {
  const { requests, refused, attempts } = await runStrangers({ strangers: 200, seconds: 3, eventsPerSecond: 2_000 });
  expect([requests, refused]).toEqual([60, {}]);
  expect(Object.keys(attempts)).toEqual(expect.arrayContaining(["gzip bomb", "deep arrays", "zstd frames", "nowhere"]));
});
