import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { expect, it } from "vitest";
import { createLogger } from "#lib/process/log.ts";
import { createKafkaClient } from "./client.ts";

const hasIpv6 = await new Promise<boolean>((resolve) => {
  const server = createServer().listen(0, "::1");
  server.once("listening", () => server.close(() => resolve(true)));
  server.once("error", () => resolve(false));
});

it.runIf(hasIpv6)("a broker is reached under its IPv6 address", async () => {
  const server = createServer().listen(0, "::1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const logger = createLogger({ level: "silent", service: "test" });
  const client = createKafkaClient({ brokers: [`[::1]:${port}`], clientId: "test", logger }, 5_000);
  const connected = client.kafka.admin().connect();
  const [socket] = await once(server, "connection");
  expect(socket.remoteAddress).toBe("::1");
  client.kill();
  await expect(connected).rejects.toThrow();
  socket.destroy();
  server.close();
});
