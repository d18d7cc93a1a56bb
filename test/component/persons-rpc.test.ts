// PersonService over each protocol: real log, consumer and engine, and whatever callers and operators do meanwhile.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Step } from "#gen/millrace/identity/v1/persons_pb.ts";
import { personIdOf } from "#lib/events/ids.ts";
import { takeTurn } from "#lib/identity/erasure/turn.ts";
import { startTestClickHouse, type TestClickHouse } from "../kit/clickhouse.ts";
import { createScene, identify, type Scene, seen, set } from "../kit/erasure.ts";
import { callH1 } from "../kit/http-calls.ts";
import {
  byDistinctId,
  byId,
  clientOf,
  failureOf,
  KEY,
  outcomeOf,
  PUBLIC,
  protocols,
  RETENTION,
  SECRET,
  type Server,
  serve,
} from "../kit/persons-rpc.ts";
import { until } from "../kit/until.ts";

const PATH = "/millrace.identity.v1.PersonService/Delete";

let clickhouse: TestClickHouse;
/** For tests that leave the consumer alone; each has people of its own. */
let shared: Scene;
let server: Server;
beforeAll(async () => {
  clickhouse = await startTestClickHouse();
  shared = await createScene(clickhouse, "rpc", 2);
  shared.stage.start();
  server = await serve(shared);
});
afterAll(async () => {
  for (const each of [server, shared, clickhouse]) await each[Symbol.asyncDispose]();
});

async function countOf(distinctId: string): Promise<number> {
  const sql = "SELECT 1 FROM events WHERE distinct_id = {d:String}";
  return (await shared.warehouse.query(sql, { params: { d: distinctId } })).length;
}

interface Tombstone {
  asked: string;
  finished: string | null;
}

/** Of erasures that name one of the ids, or of all. */
function tombstones({ warehouse }: Scene, ...distinctIds: string[]): Promise<Tombstone[]> {
  return warehouse.query(
    `SELECT toString(toUnixTimestamp64Milli(requested_at)) AS asked, toString(toUnixTimestamp64Milli(finished_at)) AS finished
     FROM erasures FINAL WHERE empty({ids:Array(UUID)}) OR hasAny(own_person_ids, {ids:Array(UUID)})
     ORDER BY erasures.requested_at`,
    { params: { ids: distinctIds.map(personIdOf) } },
  );
}

describe("a person", () => {
  it("is shown, deleted and certified over Connect, gRPC and gRPC-Web, and others stay", async () => {
    await shared.tell(identify("ann", "anon-ann"), set("ann", 1), seen("anon-ann"), seen("dora"));
    await shared.settled();
    const headers = { authorization: `Bearer ${SECRET}` };
    const clients = protocols.map((protocol) => clientOf(server.url, protocol));
    for (const client of clients) {
      const shown = await Array.fromAsync(client.delete({ ...byDistinctId("ann"), dryRun: true }, { headers }));
      const preview = { events: 3n, deadLetters: 0n, namedIds: 2n, unfinishedErasureId: "" };
      expect(shown).toMatchObject([{ answer: { case: "preview", value: preview } }]);
    }
    const { steps, certificate } = await outcomeOf(
      clientOf(server.url, "grpc").delete(byId(personIdOf("ann")), { headers }),
    );
    expect(steps).toEqual([...steps].sort());
    expect(steps).toContain(Step.REWRITING_FILES);
    expect(certificate).toMatchObject({ clean: true, erased: 3n, remainsReason: RETENTION.why });
    const ownIds = ["ann", "anon-ann"].map(personIdOf).sort();
    expect(certificate.person).toMatchObject({ personId: personIdOf("ann"), ownIds, ownIdCount: 2n });
    expect(certificate.checks.map(({ count }) => count)).toEqual(certificate.checks.map(() => 0n));
    for (const { query } of certificate.checks.filter((check) => check.query !== "")) {
      expect(await shared.warehouse.query(query)).toEqual([{ n: "0" }]);
    }
    const newest = Math.max(...certificate.remains.map(({ newestTime }) => (newestTime ? timestampMs(newestTime) : 0)));
    expect(certificate.remainsUntil && timestampMs(certificate.remainsUntil)).toBe(newest + RETENTION.keptMs);
    // Asked for again, the same is certified again.
    for (const client of clients) {
      expect((await outcomeOf(client.delete(byDistinctId("anon-ann"), { headers }))).certificate).toEqual(certificate);
    }
    expect([await countOf("ann"), await countOf("anon-ann"), await countOf("dora")]).toEqual([0, 0, 1]);
    expect(await shared.verify()).toBe(true);
  });

  it("is gone once, and everybody else is deleted after it, however many ask at the same time", async () => {
    await using scene = await createScene(clickhouse, "rpc_together", 2);
    scene.stage.start();
    // Two persons with a link between them: bob's identify names an id of ann's.
    await scene.tell(identify("ann", "anon"), seen("anon"), identify("bob", "anon"), seen("dora"));
    await scene.settled();
    await using one = await serve(scene);
    await using two = await serve(scene);
    const asked = [
      one.client.delete(byDistinctId("ann"), KEY),
      two.client.delete(byDistinctId("bob"), KEY),
      one.client.delete(byDistinctId("anon"), KEY),
    ];
    const certificates = (await Promise.all(asked.map(outcomeOf))).map(({ certificate }) => certificate);
    expect(certificates.map(({ clean }) => clean)).toEqual([true, true, true]);
    expect(certificates[0]?.erasureId).toBe(certificates[2]?.erasureId);
    const erasures = await tombstones(scene);
    expect(erasures).toHaveLength(2);
    for (const [n, { asked: begun }] of erasures.entries()) {
      if (n > 0) expect(Number(begun)).toBeGreaterThanOrEqual(Number(erasures[n - 1]?.finished ?? Number.NaN));
    }
    expect(await scene.warehouse.query("SELECT distinct_id AS d FROM events")).toEqual([{ d: "dora" }]);
    expect(await scene.warehouse.query("SELECT 1 FROM identity_edges WHERE kind != 'erased'")).toEqual([]);
    expect(await scene.verify()).toBe(true);
  });
});

describe("a caller who leaves", () => {
  it("stops nothing that has begun", async () => {
    await shared.tell(identify("liv", "anon-liv"));
    await shared.settled();
    const leaving = new AbortController();
    const steps: Step[] = [];
    const reading = async () => {
      const answers = server.client.delete(byDistinctId("liv"), { ...KEY, signal: leaving.signal });
      for await (const { answer } of answers) {
        if (answer.case === "progress") steps.push(answer.value.step);
        if (steps.at(-1) === Step.HIDING) leaving.abort();
      }
    };
    await expect(reading()).rejects.toMatchObject({ code: Code.Canceled });
    expect(steps.at(-1)).toBe(Step.HIDING);
    const isFinished = async () => typeof (await tombstones(shared, "liv"))[0]?.finished === "string";
    await until(isFinished, "the erasure is finished");
    expect(await countOf("liv")).toBe(0);
  });

  it("takes what waits for its turn along, and its place; beyond 16 places callers get a time to retry", async () => {
    await shared.tell(seen("mia"), seen("max"));
    await shared.settled();
    // As another copy of the service, or the command, holds it.
    const turn = await takeTurn(shared.warehouse, { onWait: () => {} });
    const leaving = new AbortController();
    const waiting: Step[] = [];
    const left = Array.from({ length: 16 }, async () => {
      const answers = server.client.delete(byDistinctId("mia"), { ...KEY, signal: leaving.signal });
      for await (const { answer } of answers) if (answer.case === "progress") waiting.push(answer.value.step);
    }).map((call) => call.catch((error: unknown) => ConnectError.from(error).code));
    await until(() => waiting.length >= 16, "all wait");
    const refused = await failureOf(server.client.delete(byDistinctId("max"), KEY));
    expect(refused.code).toBe(Code.ResourceExhausted);
    expect(refused.metadata.get("retry-after")).toBe("10");
    leaving.abort();
    expect(await Promise.all(left)).toEqual(left.map(() => Code.Canceled));
    expect(new Set(waiting)).toEqual(new Set([Step.WAITING_FOR_TURN]));

    const isAccepted = Promise.withResolvers<void>();
    const max = (async function* () {
      for await (const each of server.client.delete(byDistinctId("max"), KEY)) {
        isAccepted.resolve();
        yield each;
      }
    })();
    const outcome = outcomeOf(max);
    await isAccepted.promise;
    await turn[Symbol.asyncDispose]();
    expect((await outcome).certificate.clean).toBe(true);
    expect(await tombstones(shared, "mia")).toEqual([]);
    expect([await countOf("mia"), await countOf("max")]).toEqual([1, 0]);
  });
});

describe("a deletion that cannot be finished", () => {
  it("tells of a consumer that stands still, and goes on when asked again, also by another copy of the service", async () => {
    await using scene = await createScene(clickhouse, "rpc_behind", 1);
    const consumer = scene.stage.start();
    await scene.tell(seen("ann"));
    await scene.settled();
    await consumer[Symbol.asyncDispose]();
    await scene.tell(seen("ann"), seen("ann"));
    {
      await using impatient = await serve(scene, { patienceMs: 300 });
      const failure = await failureOf(impatient.client.delete(byDistinctId("ann"), KEY));
      expect(failure.code).toBe(Code.Unavailable);
      expect(failure.rawMessage).toContain("partition 0 stands at offset 1 of 3");
    }
    let failure: Promise<ConnectError>;
    {
      await using stopped = await serve(scene);
      const behind = Promise.withResolvers<bigint[]>();
      const answers = stopped.client.delete(byDistinctId("ann"), KEY);
      failure = failureOf(
        (async function* () {
          for await (const each of answers) {
            const { answer } = each;
            if (answer.case === "progress" && answer.value.behind[0]) {
              behind.resolve([answer.value.behind[0].nextOffset, answer.value.behind[0].endOffset]);
            }
            yield each;
          }
        })(),
      );
      expect(await behind.promise).toEqual([1n, 3n]);
    }
    expect((await failure).code).toBe(Code.Unavailable);
    expect(await tombstones(scene)).toMatchObject([{ finished: null }]);
    scene.stage.start();
    await using server = await serve(scene);
    const shown = await Array.fromAsync(server.client.delete({ ...byDistinctId("ann"), dryRun: true }, KEY));
    expect(shown[0]?.answer.value).toMatchObject({ unfinishedErasureId: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    expect((await outcomeOf(server.client.delete(byDistinctId("ann"), KEY))).certificate).toMatchObject({ erased: 3n });
    expect(await tombstones(scene)).toHaveLength(1);
    expect(await scene.verify()).toBe(true);
  });
});

describe("who may call, and for whom", () => {
  it.each([
    ["no key", {}, Code.Unauthenticated, "send one of SECRET_API_KEYS"],
    ["an unknown key", { "x-api-key": "sk_2" }, Code.Unauthenticated, "send one of SECRET_API_KEYS"],
    ["the beginning of a key", { authorization: "Bearer sk_" }, Code.Unauthenticated, "send one of SECRET_API_KEYS"],
    ["a key that is public as well", { "x-api-key": PUBLIC }, Code.PermissionDenied, "a public key cannot"],
    ["a web page with a key", { "x-api-key": SECRET, origin: "https://a.example" }, Code.PermissionDenied, "web pages"],
  ])("%s is refused, over each protocol", async (_, headers, code, message) => {
    for (const protocol of protocols) {
      const failure = await failureOf(clientOf(server.url, protocol).delete(byDistinctId("ann"), { headers }));
      expect({ protocol, code: failure.code, message: failure.rawMessage }).toEqual({
        ...{ protocol, code },
        message: expect.stringContaining(message),
      });
    }
  });

  it("without any secret key there is no such service", async () => {
    await using keyless = await serve(shared, { secretKeys: [] });
    for (const headers of [{}, { "x-api-key": "" }, { "x-api-key": SECRET }]) {
      const failure = await failureOf(keyless.client.delete(byDistinctId("ann"), { headers }));
      expect([failure.code, failure.rawMessage]).toEqual([
        Code.Unimplemented,
        expect.stringContaining("SECRET_API_KEYS"),
      ]);
    }
  });

  it("a browser's preflight is answered without leave for any page", async () => {
    const origin = { origin: "https://a.example", "access-control-request-method": "POST" };
    const { status, headers } = await callH1(server.port, PATH, { method: "OPTIONS", headers: origin });
    expect(status).toBe(204);
    expect(Object.keys(headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
  });

  it.each([
    ["nobody is named", {}, "person_id: is missing"],
    ["the distinct id is empty", byDistinctId(""), "distinct_id: is empty"],
    ["the id is no UUID", byId("ann"), "person_id: is not a UUID"],
    ["the id is nobody's", byId(personIdOf("")), "nil UUID"],
  ])("an argument is named when %s", async (_, request, message) => {
    const failure = await failureOf(server.client.delete(request, KEY));
    expect([failure.code, failure.rawMessage]).toEqual([Code.InvalidArgument, expect.stringContaining(message)]);
  });

  it("a person of whom nothing is stored is not found, and no tombstone is made", async () => {
    expect((await failureOf(server.client.delete(byDistinctId("nobody"), KEY))).code).toBe(Code.NotFound);
    expect(await tombstones(shared, "nobody")).toEqual([]);
  });
});
