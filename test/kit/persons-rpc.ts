// PersonService alone on a real port, over the log and the tables of a scene; and what its callers make of its answers.
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { pino } from "pino";
import { type DeleteResponse, PersonService, type Step } from "#gen/millrace/identity/v1/persons_pb.ts";
import { listenHttp, SMALL_LISTENER } from "#lib/http/listener.ts";
import { createDeletions } from "../../services/stats/persons/deletions.ts";
import { createPersonsRpc } from "../../services/stats/persons/rpc.ts";
import type { Scene } from "./erasure.ts";

export const SECRET = "sk_1";
export const PUBLIC = "pk_1";
export const RETENTION = { keptMs: 3_600_000, why: "a test's word" };

export interface Server extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly client: Client<typeof PersonService>;
}

export async function serve(
  scene: Scene,
  options: { secretKeys?: string[]; patienceMs?: number } = {},
): Promise<Server> {
  const { secretKeys = [SECRET, PUBLIC], patienceMs = 20_000 } = options;
  const logger = pino({ level: "silent" });
  const { log } = scene.deps();
  const stopping = new AbortController();
  const stop = { stopSignal: stopping.signal, stopMs: 5_000 };
  const deletions = createDeletions({ log, warehouse: scene.warehouse, logger, patienceMs, ...stop });
  const mounted = createPersonsRpc({
    ...{ publicKeys: [PUBLIC], secretKeys, warehouse: scene.warehouse, deletions, logger },
    ...{ shutdownSignal: stopping.signal, retention: async () => RETENTION },
  });
  const listener = await listenHttp({
    ...{ ...SMALL_LISTENER, host: "127.0.0.1", port: 0, setting: "STATS_PORT", logger },
    handle(request, response) {
      if (mounted(request, response)) return;
      response.statusCode = 404;
      response.end();
    },
  });
  const url = `http://127.0.0.1:${listener.port}`;
  return {
    port: listener.port,
    url,
    client: clientOf(url),
    async [Symbol.asyncDispose]() {
      stopping.abort(new ConnectError("stopping", Code.Unavailable));
      await listener.close(500);
      await deletions[Symbol.asyncDispose]();
    },
  };
}

const transports = {
  connect: (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: "1.1" }),
  grpc: (baseUrl: string) => createGrpcTransport({ baseUrl }),
  "grpc-web": (baseUrl: string) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
};

export const protocols = Object.keys(transports) as (keyof typeof transports)[];

export function clientOf(url: string, protocol: keyof typeof transports = "connect"): Client<typeof PersonService> {
  return createClient(PersonService, transports[protocol](url));
}

export const KEY = { headers: { "x-api-key": SECRET } };
export const byDistinctId = (value: string) => ({ person: { case: "distinctId" as const, value } });
export const byId = (value: string) => ({ person: { case: "personId" as const, value } });

interface Outcome {
  steps: Step[];
  certificate: Extract<DeleteResponse["answer"], { case: "certificate" }>["value"];
}

export async function outcomeOf(answers: AsyncIterable<DeleteResponse>): Promise<Outcome> {
  const steps: Step[] = [];
  for await (const { answer } of answers) {
    if (answer.case === "progress" && steps.at(-1) !== answer.value.step) steps.push(answer.value.step);
    if (answer.case === "certificate") return { steps, certificate: answer.value };
  }
  throw new Error(`ended without a certificate, after ${steps.join()}`);
}

export async function failureOf(answers: AsyncIterable<DeleteResponse>): Promise<ConnectError> {
  try {
    await Array.fromAsync(answers);
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new Error("the call succeeded");
}
