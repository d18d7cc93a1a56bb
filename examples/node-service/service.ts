// Takes orders at POST /orders and captures an event for each. Ctrl-C ends it, after the last events have been sent.
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { createClient } from "@millrace/client";

const { MILLRACE_URL = "http://localhost:8080", MILLRACE_API_KEY, PORT = "3000", SPOOL } = process.env;

const millrace = createClient({
  url: MILLRACE_URL,
  apiKey: MILLRACE_API_KEY,
  spool: SPOOL === undefined ? undefined : { dir: SPOOL },
  onDrop: (reason, events) => process.stderr.write(`${events.length} events dropped: ${reason}\n`),
});

const server = createServer(async (request, response) => {
  const order = request.method === "POST" && request.url === "/orders" ? await readOrder(request) : undefined;
  if (order === undefined) {
    response.writeHead(400).end("expected POST /orders with a customer and a total\n");
    return;
  }
  // Queued, not waited for: an answer to a customer never depends on the gateway.
  millrace.capture({
    event: "order_paid",
    distinctId: order.customer,
    source: "node-service",
    value: order.total,
    properties: { agent: request.headers["user-agent"] },
  });
  response.writeHead(201).end("thank you\n");
});

interface Order {
  customer: string;
  total: number;
}

/** Undefined when the body is invalid. */
async function readOrder(request: IncomingMessage): Promise<Order | undefined> {
  try {
    const { customer, total } = (await json(request)) as Partial<Order>;
    return typeof customer === "string" && typeof total === "number" ? { customer, total } : undefined;
  } catch {
    // Not JSON, or the caller has gone: answered as any other body that is no order.
    return undefined;
  }
}

async function stop(): Promise<void> {
  const closed = once(server, "close");
  server.close();
  // What the last requests capture is to be sent, too.
  await closed;
  await millrace.close();
  const { sent, dropped } = millrace.counters();
  process.stdout.write(`stopped: ${sent} events sent, dropped ${JSON.stringify(dropped)}\n`);
}

process.once("SIGTERM", stop);
process.once("SIGINT", stop);
server.listen(Number(PORT), "127.0.0.1", () => {
  process.stdout.write(`orders at http://127.0.0.1:${(server.address() as AddressInfo).port}/orders\n`);
});
