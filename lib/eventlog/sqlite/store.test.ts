import { afterEach, expect, it, vi } from "vitest";
import { packRecords, unpackRecords } from "./frames.ts";
import { createStore } from "./store.ts";

afterEach(() => {
  vi.useRealTimers();
});

const frame = () => packRecords([{ key: Buffer.from("k"), value: Buffer.from("v") }]);

it("append times stand still while the clock is behind the last of them", () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const store = createStore({ file: ":memory:", readOnly: false });
  store.createTopics(["t"]);
  for (const now of [5000, 3000, 4000, 6000]) {
    vi.setSystemTime(now);
    store.write([{ op: "append", topic: "t", frame: frame() }]);
  }
  const read = store.read({ topic: "t", partition: 0, from: 0, maxRecords: 10, maxBytes: 1e6 });
  const records = read ? unpackRecords(read, 0) : [];
  expect(records.map(({ appendTimeMs }) => appendTimeMs)).toEqual([5000, 5000, 5000, 6000]);
  store.close();
});

it("appends and commits of one group are numbered in their order", () => {
  const store = createStore({ file: ":memory:", readOnly: false });
  store.createTopics(["a", "b"]);
  const append = (topic: string) => ({ op: "append" as const, topic, frame: frame() });
  const commit = { op: "commit" as const, topic: "a", group: "g", partition: 0, commit: { offset: 1, metadata: "m" } };
  expect(store.write([append("a"), append("b"), commit, append("a")])).toEqual([0, 0, 0, 1]);
  expect(store.committed("a", "g")).toEqual(new Map([[0, { offset: 1, metadata: "m" }]]));
  store.close();
});

it("what is packed comes out the same", () => {
  const records = [
    { appendTimeMs: 1.5, key: new Uint8Array(0), value: new Uint8Array(0) },
    { appendTimeMs: 2 ** 43, key: Uint8Array.of(0, 255), value: new Uint8Array(70_000).fill(7), traceparent: "ünï-01" },
  ];
  expect(unpackRecords(packRecords(records), 41)).toEqual(records.map((one, i) => ({ offset: 41 + i, ...one })));
});
