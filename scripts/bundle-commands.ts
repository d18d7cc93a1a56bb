// Bundles `millrace` for the processes that tests start: of the 0.7 s of work that a start is, most is finding 800 files.
// Everything the code names by its own place is still found there, so that threads and child processes run the sources.
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "vite";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Returns the bundle's entry, which takes the arguments that services/cli.ts takes. Empties the directory first. */
export async function bundleCommands(directory: string): Promise<string> {
  await build({
    root: ROOT,
    configFile: false,
    logLevel: "warn",
    plugins: [{ name: "places of the sources", enforce: "pre", transform: keepPlace }],
    // Native code, what loads files of its own by name, and what we patch inside.
    ssr: {
      noExternal: true,
      external: ["chdb", "kafkajs", "kafkajs-snappy", "koffi", "lz4js", "pino"],
      target: "node",
    },
    build: {
      ssr: join(ROOT, "services/cli.ts"),
      outDir: directory,
      emptyOutDir: true,
      target: "node24",
      minify: false,
      rolldownOptions: { external: [/^@opentelemetry\/(?!api$)/], output: { entryFileNames: "cli.js" } },
    },
  });
  return join(directory, "cli.js");
}

function keepPlace(code: string, id: string): string | undefined {
  if (id.includes("node_modules") || !code.includes("import.meta.url")) return undefined;
  return code.replaceAll("import.meta.url", JSON.stringify(pathToFileURL(id).href));
}

if (import.meta.main) console.log(await bundleCommands(join(ROOT, "node_modules/.cache/millrace-commands")));
