// What a thousand hosts cost the relay service: each with twenty values, asked every ten seconds.
import { once } from "node:events";
import net from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createSqliteLog } from "#lib/eventlog/sqlite/log.ts";
import { POINTS_TOPIC } from "#lib/events/topics.ts";
import { createLineSplitter } from "#lib/relay-protocol/lines.ts";
import { startMeasured } from "../meter.ts";
import { CaseFailedError, expectCounted, type Result, type Setting } from "../result.ts";
import { makeScratch } from "../stores.ts";

const RELAYS = 1_000;
const VALUES = 20;
const POLL_MS = 10_000;
const CPU_SHARE_LIMIT = 0.15;
const LINE_BYTES_MAX = 65_536;
const ADDS = "add cpu:role:web,dc:eu\nadd net:role:web\n";

export async function measureRelay(setting: Setting): Promise<Result> {
  await using stack = new AsyncDisposableStack();
  const file = join(await makeScratch(stack), "log.sqlite");
  const pollMs = setting.quick ? 1_000 : POLL_MS;
  const polls = setting.quick ? 2 : 3;
  const relay = await startMeasured("relay-process.ts", [file, String(pollMs)]);
  let answered = 0;
  let result: Omit<Result, "rows" | "acked" | "events">;
  {
    await using running = relay;
    const sockets: net.Socket[] = [];
    stack.defer(() => {
      for (const socket of sockets) socket.destroy();
    });
    setting.progress(`connecting ${RELAYS} relays`);
    for (let i = 0; i < RELAYS; i++) {
      const socket = net.connect({ host: "127.0.0.1", port: Number(running.details.port) });
      sockets.push(socket);
      await once(socket, "connect", { signal: setting.signal });
      answerPolls(socket, i, () => answered++);
    }
    setting.progress(`${polls} polls of ${RELAYS} relays`);
    // From one poll's answers to those of a later one, so that whole intervals are measured.
    await answersReach(RELAYS);
    const begun = performance.now();
    const before = await running.read();
    await answersReach(RELAYS * (1 + polls));
    await sleep(Math.max(0, begun + polls * pollMs - performance.now()), undefined, { signal: setting.signal });
    const after = await running.read();
    const seconds = (performance.now() - begun) / 1000;
    const cpuSeconds = (after.cpuUs - before.cpuUs) / 1e6;
    const share = { what: "CPU, share of a core", measured: cpuSeconds / seconds, limit: CPU_SHARE_LIMIT };
    result = {
      name: `relay, ${RELAYS} hosts of ${VALUES} values every ${pollMs / 1000} s`,
      seconds,
      cpuUsPerEvent: (cpuSeconds * 1e6) / (RELAYS * VALUES * polls),
      rssMaxMb: after.rssMaxMb,
      targets: setting.quick ? [] : [share],
      note: `${(share.measured * 100).toFixed(1)} % of a core`,
    };
    for (const socket of sockets) socket.end("close\n");
    await Promise.all(sockets.map((socket) => socket.closed || once(socket, "close")));
  }
  // The relay has stopped and brought everything to the log.
  const rows = await countRows(file);
  const acked = answered * VALUES;
  expectCounted(acked, rows);
  return { ...result, events: acked, acked, rows };

  async function answersReach(count: number): Promise<void> {
    const deadline = performance.now() + 6 * pollMs;
    while (answered < count) {
      if (performance.now() > deadline) throw new CaseFailedError(`${answered} of ${count} answers to polls`);
      await sleep(50, undefined, { signal: setting.signal });
    }
  }
}

function answerPolls(socket: net.Socket, host: number, onAnswer: () => void): void {
  const lines = createLineSplitter(LINE_BYTES_MAX);
  socket.write(`id host-${host}\n${ADDS}`);
  socket.on("data", (chunk) => {
    lines.push(chunk, (line) => {
      if (!line.startsWith("get ")) return;
      socket.write(`got ${items().join()}\n`);
      onAnswer();
    });
  });
}

function items(): string[] {
  return Array.from(
    { length: VALUES },
    (_, i) => `${i % 2 ? "cpu" : "net"}-value_${i}:${(Math.random() * 100).toFixed(4)}`,
  );
}

async function countRows(file: string): Promise<number> {
  const log = await createSqliteLog({ file, readOnly: true });
  try {
    const [bounds] = await log.bounds(POINTS_TOPIC);
    return bounds ? bounds.end - bounds.start : 0;
  } finally {
    await log[Symbol.asyncDispose]();
  }
}
