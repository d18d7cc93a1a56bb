import { describe, expect, it } from "vitest";
import { createSlots } from "./deliver-slots.ts";

const { signal } = new AbortController();

/** Names of those who were let in, as it happens. */
function visitors(slots: ReturnType<typeof createSlots>) {
  const inside: string[] = [];
  const leave = new Map<string, () => void>();
  return {
    inside,
    async enter(name: string, receiver: string, until = signal) {
      leave.set(name, await slots.take(receiver, until));
      inside.push(name);
    },
    async leave(name: string) {
      leave.get(name)?.();
      await new Promise(setImmediate);
    },
  };
}

describe("slots", () => {
  it("let few to one receiver, and others past those who wait for it", async () => {
    const { inside, enter, leave } = visitors(createSlots(3, 2));
    const all = [enter("a1", "a"), enter("a2", "a"), enter("a3", "a"), enter("a4", "a"), enter("b1", "b")];
    await new Promise(setImmediate);
    expect(inside).toEqual(["a1", "a2", "b1"]);
    await leave("b1");
    expect(inside).toEqual(["a1", "a2", "b1"]);
    await leave("a1");
    await leave("a2");
    await Promise.all(all);
    expect(inside).toEqual(["a1", "a2", "b1", "a3", "a4"]);
  });

  it("let no more than their number in, and the next one when somebody leaves", async () => {
    const { inside, enter, leave } = visitors(createSlots(1, 1));
    const all = [enter("a", "a"), enter("b", "b"), enter("c", "c")];
    await new Promise(setImmediate);
    expect(inside).toEqual(["a"]);
    await leave("a");
    expect(inside).toEqual(["a", "b"]);
    await leave("b");
    await Promise.all(all);
  });

  it("forget those who give up waiting", async () => {
    const { inside, enter, leave } = visitors(createSlots(1, 1));
    const patience = new AbortController();
    await enter("a", "x");
    const gone = enter("b", "x", patience.signal);
    const waiting = enter("c", "x");
    patience.abort(new Error("lost"));
    await expect(gone).rejects.toThrow("lost");
    await leave("a");
    await waiting;
    expect(inside).toEqual(["a", "c"]);
  });
});
