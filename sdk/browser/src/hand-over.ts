// Hands unsent events over when a page closes.
import { native } from "./native.ts";
import type { Item, Pending } from "./pending.ts";
import type { QueueStore } from "./queue-store.ts";
import type { Sender } from "./sender.ts";
import type { TransportName } from "./types.ts";

/** Browsers give all closing requests of a page 64 KiB together. */
const BYTES_MAX = 60_000;
const ENVELOPE_BYTES = 200;

export interface HandOverOptions {
  pending: Pending;
  store: QueueStore;
  sender: Sender;
  /** The page is still there, and so was an answer. */
  onAnswer(uuids: readonly string[], dropped: number): Promise<void>;
  /** The page is still there, and the events are still queued. */
  onNoAnswer(): void;
}

/**
 * Gives the browser what fits to send after the page has gone, requests whose answer is awaited included: they end with
 * the page. Everything stays queued until an answer is seen; the server knows the ids of what it gets twice.
 */
export function createHandOver(options: HandOverOptions): (by: TransportName) => void {
  const { pending, sender, store } = options;
  let bytesUnderWay = 0;

  function choose(): { items: Item[]; bytes: number } {
    const items: Item[] = [];
    let bytes = ENVELOPE_BYTES;
    for (const item of pending.items()) {
      if (item.isHandedOver) continue;
      const size = new native.Blob([item.jsonNow()]).size + 1;
      if (bytesUnderWay + bytes + size > BYTES_MAX) continue;
      bytes += size;
      items.push(item);
    }
    return { items, bytes };
  }

  return (by) => {
    store.stash(pending.items().filter(({ saved }) => saved === "no" || saved === "saving"));
    const { bytes, items } = choose();
    if (items.length === 0) return;
    const rows = items.map((item) => ({ uuid: item.uuid, json: item.jsonNow() }));
    const answer = sender.sendClosing(rows, by);
    if (!answer) return;
    const uuids = items.map(({ uuid }) => uuid);
    bytesUnderWay += bytes;
    for (const item of items) {
      item.isHandedOver = true;
      item.wasSent = true;
    }
    const stillHere = () => {
      bytesUnderWay -= bytes;
      for (const item of items) item.isHandedOver = false;
    };
    answer.then(
      async (dropped) => {
        stillHere();
        await (dropped === undefined ? options.onNoAnswer() : options.onAnswer(uuids, dropped));
      },
      () => {
        stillHere();
        options.onNoAnswer();
      },
    );
  };
}
