// Data directories that other versions left behind when they were killed, opened by this one: test/fixtures/, made by
// `npm run fixture`.
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import type { FixtureFacts } from "../../scripts/release-fixture.ts";
import { must } from "../kit/sdk-packages.ts";
import { runMillrace, startStandalone, temporaryDirectory } from "../kit/standalone.ts";

const FIXTURES = fileURLToPath(new URL("../fixtures", import.meta.url));

it.each(readdirSync(FIXTURES))(
  "what %s stored is there, what it had only accepted is stored, each event once, and verify agrees",
  async (version) => {
    const facts = JSON.parse(readFileSync(join(FIXTURES, version, "facts.json"), "utf8")) as FixtureFacts;
    await using folder = await temporaryDirectory();
    const dataDir = join(folder.path, "data");
    mkdirSync(dataDir);
    await must("tar", ["-xzf", join(FIXTURES, version, "data.tar.gz"), "-C", dataDir]);
    await using standalone = await startStandalone({ dataDir });
    const verified = await runMillrace(["verify", "--wait", "120s"], standalone.env);
    expect(verified, verified.stdout + verified.stderr).toMatchObject({ code: 0 });
    const rows =
      "SELECT toString(uuid), count() FROM millrace.events WHERE event = 'order' GROUP BY uuid ORDER BY uuid";
    const once = [...facts.stored, ...facts.waiting].map((id) => `${id}\t1`);
    expect((await standalone.query(rows)).split("\n")).toEqual(once);
    const people = `SELECT uniqExact(person_id) FROM millrace.events WHERE distinct_id IN ('${facts.person.join("', '")}')`;
    expect(await standalone.query(people)).toBe("1");
    expect(await standalone.process.stop("SIGTERM")).toBe(0);
  },
);
