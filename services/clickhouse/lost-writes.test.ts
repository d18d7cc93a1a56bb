import { expect, it, vi } from "vitest";
import { watchWrites } from "./lost-writes.ts";

it("a write that is lost while no statement runs is noticed", async () => {
  let rows: { value: string }[] = [];
  const ask = async () => ({ json: <T>() => ({ data: rows }) as T });
  const onLost = vi.fn();
  const closing = new AbortController();
  const writes = watchWrites({ ask, onLost, signal: closing.signal });
  await writes.assertNoneLost();
  expect(onLost).not.toHaveBeenCalled();
  rows = [{ value: "1" }];
  await vi.waitFor(() => expect(onLost).toHaveBeenCalled(), { timeout: 5_000 });
  await expect(writes.assertNoneLost()).rejects.toMatchObject({ code: 210 });
  closing.abort();
});
