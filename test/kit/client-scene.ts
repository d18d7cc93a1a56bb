// A client of @millrace/client with quick timers, before a server that makes the weather.
import { type Client, type ClientOptions, createClient, type DroppedEvent } from "../../sdk/node/src/index.ts";
import { type ScriptedGateway, startScriptedGateway, type Weather } from "./scripted-gateway.ts";

export const FAST = { intervalMs: 5, backoffMs: { base: 5, max: 20 } };

export interface Scene extends AsyncDisposable {
  gateway: ScriptedGateway;
  client: Client;
  dropped: { reason: string; event: DroppedEvent }[];
  errors: string[];
}

/** The first requests meet `weather`, all later ones are taken. */
export async function scene(weather: Weather[], options: Partial<ClientOptions> = {}): Promise<Scene> {
  const gateway = await startScriptedGateway((_request, count) => weather[count - 1] ?? "take");
  const dropped: Scene["dropped"] = [];
  const errors: string[] = [];
  const client = createClient({
    url: gateway.url,
    ...FAST,
    onDrop: (reason, events) => dropped.push(...events.map((event) => ({ reason, event }))),
    onError: (error) => errors.push(error.message),
    ...options,
  });
  return {
    gateway,
    client,
    dropped,
    errors,
    async [Symbol.asyncDispose]() {
      await client.close({ timeoutMs: 0 });
      await gateway[Symbol.asyncDispose]();
    },
  };
}

export function captureMany(client: Client, count: number, from = 0): void {
  for (let n = from; n < from + count; n++) client.capture({ event: `e${n}`, distinctId: "ada", properties: { n } });
}

/** Of what captureMany captures. */
export const names = (count: number, from = 0) => Array.from({ length: count }, (_, n) => `e${n + from}`);
