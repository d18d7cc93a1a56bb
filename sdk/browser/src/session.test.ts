import { describe, expect, it } from "vitest";
import type { Database } from "./database.ts";
import { createSession } from "./session.ts";

/** One origin: a storage and a claims table that its tabs share; transactions wait until they are let go. */
function createOrigin() {
  const items = new Map<string, string>();
  const claims = new Map<string, unknown>();
  const waiting: (() => void)[] = [];
  const database = {
    transact(_table, _mode, work) {
      return new Promise((resolve) => {
        waiting.push(() => {
          const request: { result: unknown; onsuccess?: () => void } = { result: claims.get("session") };
          const store = { get: () => request, put: (value: unknown) => claims.set("session", value) };
          work(store as unknown as IDBObjectStore, resolve);
          request.onsuccess?.();
        });
      });
    },
  } as Database;
  const store = {
    get: (name: string) => items.get(name),
    set: (name: string, value: string) => void items.set(name, value),
  };
  function openTab() {
    const gates: Promise<void>[] = [];
    const replaced = new Map<string, string>();
    const agreement = {
      database: Promise.resolve(database),
      waitFor: (gate: Promise<void>) => void gates.push(gate),
      replace: (from: string, to: string) => void replaced.set(from, to),
    };
    const session = createSession(store as never, agreement, { timeoutMs: 60_000, isKept: false });
    const sent: string[] = [];
    return {
      session,
      capture: () => void sent.push(session.touch().sessionId),
      /** The session ids of the events, once the gates are open. */
      async sent() {
        await Promise.all(gates);
        return sent.map((id) => replaced.get(id) ?? id);
      },
    };
  }
  async function letGo(order: (count: number) => number) {
    await new Promise(setImmediate);
    while (waiting.length > 0) waiting.splice(order(waiting.length), 1)[0]?.();
  }
  return { openTab, letGo, items };
}

describe("tabs that start at the same moment", () => {
  it.each([
    ["first", () => 0],
    ["last", (count: number) => count - 1],
  ])("send one session when the claim of the %s is settled first", async (_name, order) => {
    const origin = createOrigin();
    const tabs = [origin.openTab(), origin.openTab(), origin.openTab()];
    for (const tab of [...tabs, ...tabs]) tab.capture();
    await origin.letGo(order);
    const ids = (await Promise.all(tabs.map((tab) => tab.sent()))).flat();
    expect(new Set(ids).size).toBe(1);
    // And the next tab, and the next event, are in it.
    const late = origin.openTab();
    late.capture();
    tabs[0]?.capture();
    expect(new Set([...(await late.sent()), ...((await tabs[0]?.sent()) ?? []), ids[0]]).size).toBe(1);
  });

  it("leaves no session in storage that may lose, except when the page closes", () => {
    const origin = createOrigin();
    const tab = origin.openTab();
    tab.capture();
    expect(origin.items.size).toBe(0);
    tab.session.keep();
    expect(origin.items.get("millrace.session")).toMatch(/^[0-9a-f-]{36} \d+ \d+$/);
  });
});
