import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { gatewayRefusals } from "./refusals.ts";

const hosts: (string | undefined)[] = [];
const server = createServer((request, response) => {
  hosts.push(request.headers.host);
  const sums = [{ reason: "invalid", last_hour: 3, newest_ms: 7 }];
  response.end(JSON.stringify({ since_ms: 0, sums, refused: [] }));
});
beforeAll(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve)));
afterAll(() => server.close());

it.each([
  ["of one name each are asked", ["127.0.0.1", "127.0.0.1"], 2],
  ["with addresses of both families are asked once", ["127.0.0.1", "::1"], 1],
  ["with one address are asked by their name", ["127.0.0.1"], 1],
])("gateways %s", async (_, addresses, count) => {
  const { port } = server.address() as AddressInfo;
  const found = addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
  hosts.length = 0;
  const report = await gatewayRefusals([`http://localhost:${port}`], undefined, async () => found).ask([]);
  expect(report).toEqual({ refused: [], sums: [{ reason: "invalid", lastHour: 3 * count, newestMs: 7 }], gaps: [] });
  expect(hosts).toEqual(count === 2 ? [`127.0.0.1:${port}`, `127.0.0.1:${port}`] : [`localhost:${port}`]);
});
