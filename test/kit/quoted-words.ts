// Every quoted word in the code: the possible values of a metric's label.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Every word that the code of services and lib has in double quotes: what a label's value can be. */
export function quotedWords(): ReadonlySet<string> {
  const files = ["services", "commands", "lib"].flatMap((directory) =>
    readdirSync(join(ROOT, directory), { recursive: true, encoding: "utf8" }).map((path) =>
      join(ROOT, directory, path),
    ),
  );
  const sources = files.filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts"));
  const words = sources.flatMap((path) => [...readFileSync(path, "utf8").matchAll(/"([\w.]+)"/g)]);
  return new Set(words.map(([, word = ""]) => word));
}
