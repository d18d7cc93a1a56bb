// What the queue makes of ids that tabs still agree on, while a page that is hidden hands its events over.
import { expect, it, vi } from "vitest";
import { createDelivery } from "./delivery.ts";
import { type Listed, NO_STORE, type Row } from "./queue-store.ts";
import { uuidv7 } from "./uuid.ts";

function start(stored: Row[] = []) {
  const sent: string[] = [];
  const stash: Row[] = [];
  const put: string[] = [];
  let lists = 0;
  const listed: Listed = { rows: stored, isComplete: false };
  const delivery = createDelivery({
    sender: {
      send: async (rows) => {
        sent.push(...rows.map(({ json }) => json));
        return 0;
      },
      // A beacon: nobody sees its answer.
      sendClosing: (rows) => {
        sent.push(...rows.map(({ json }) => json));
        return Promise.resolve(undefined);
      },
    },
    store: {
      ...NO_STORE,
      list: async () => {
        lists++;
        return listed;
      },
      put: async (rows) => {
        put.push(...rows.map(({ uuid }) => uuid));
        return [];
      },
      stash(rows) {
        stash.push(...rows);
        return true;
      },
    },
    lock: undefined,
    flushAt: 3,
    flushIntervalMs: 60_000,
    maxQueueSize: 1000,
    counters: { captured: 0, sent: 0, queued: 0, overflow: 0, rejected: 0, filtered: 0, invalid: 0 },
  });
  const add = (properties: Record<string, unknown>) => {
    const event = { uuid: uuidv7(), event: "e", properties, timestamp: new Date().toISOString() };
    delivery.add(event, JSON.stringify(event), true);
    return event.uuid;
  };
  return { delivery, add, sent, stash, put, lists: () => lists };
}

const devices = (jsons: readonly string[], uuid: string) =>
  jsons.map((json) => JSON.parse(json)).flatMap((event) => (event.uuid === uuid ? [event.properties.$device_id] : []));

it("an event that was handed over before the tabs agreed is sent again as it was, under one $device_id", async () => {
  const { delivery, add, sent, stash } = start();
  const agreed = Promise.withResolvers<void>();
  delivery.waitFor(agreed.promise);
  const before = add({ $device_id: "mine" });
  delivery.handOver("sendBeacon");
  const after = add({ $device_id: "mine" });
  delivery.replace("mine", "theirs");
  agreed.resolve();
  await delivery.flush();
  expect(devices(sent, before)).toEqual(["mine", "mine"]);
  expect(devices(sent, after)).toEqual(["theirs"]);
  expect(
    devices(
      stash.map(({ json }) => json),
      before,
    ),
  ).toEqual(["mine"]);
  delivery.stop();
});

it("an event whose request has no answer keeps the ids that it was sent with", async () => {
  const { delivery, add, sent } = start();
  const uuid = add({ $device_id: "mine", $session_id: "first" });
  delivery.handOver("fetch");
  delivery.replace("first", "second");
  await delivery.flush();
  expect(sent.map((json) => JSON.parse(json).properties.$session_id)).toEqual(["first", "first"]);
  expect(devices(sent, uuid)).toEqual(["mine", "mine"]);
  delivery.stop();
});

const aTurn = () => new Promise((resolve) => setTimeout(resolve));

it("a hidden page writes nothing that a database has still to answer for; a page that is shown again catches up", async () => {
  const { delivery, add, stash, put } = start();
  const shown = add({});
  await aTurn();
  expect(put).toEqual([shown]);
  // As a page is left: the leave is captured, and then handed over.
  const leave = add({});
  delivery.setHidden(true);
  delivery.handOver("fetch");
  await aTurn();
  const hidden = add({});
  await aTurn();
  expect(put).toEqual([shown]);
  expect(new Set(stash.map(({ uuid }) => uuid))).toEqual(new Set([leave, hidden]));
  delivery.setHidden(false);
  await aTurn();
  expect(put).toEqual([shown, leave, hidden]);
  delivery.stop();
});

it("a page's last event that fills a batch begins no request for stored ones", async () => {
  const { delivery, add, lists } = start();
  add({});
  add({});
  const last = () => {
    add({});
    delivery.setHidden(true);
    delivery.handOver("fetch");
  };
  last();
  await aTurn();
  expect(lists()).toBe(0);
  delivery.setHidden(false);
  add({});
  await vi.waitFor(() => expect(lists()).toBeGreaterThan(0));
  delivery.stop();
});
