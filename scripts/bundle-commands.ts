// Bundles `millrace` into few files: of the 0.7 s of work that a start is, most is finding 800 of them, and 40 MB of an idle
// gateway's memory are what Node keeps of them. For the processes that tests start, and for the installed package.
import { join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "vite";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

export interface BundleSource {
  /** Directory of services/cli. */
  root: string;
  entry: string;
  /** The code that stands for `import.meta.url` of this file: threads, child processes and data are found where it was. */
  placeOf(file: string): string;
}

const SOURCES: BundleSource = {
  root: ROOT,
  entry: "services/cli.ts",
  placeOf: (file) => JSON.stringify(pathToFileURL(file).href),
};

/** Returns the bundle's entry, which takes the arguments that services/cli.ts takes. Empties the directory first. */
export async function bundleCommands(directory: string, { root, entry, placeOf } = SOURCES): Promise<string> {
  function keepPlace(code: string, id: string): string | undefined {
    const isOurs = !relative(root, id).includes("node_modules");
    if (!isOurs || !code.includes("import.meta.url")) return undefined;
    return code.replaceAll("import.meta.url", placeOf(id));
  }
  await build({
    root,
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
      ssr: join(root, entry),
      outDir: directory,
      emptyOutDir: true,
      target: "node24",
      minify: false,
      rolldownOptions: {
        external: [/^@opentelemetry\/(?!api$)/],
        output: {
          ...{ entryFileNames: "cli.js", chunkFileNames: "[name]-[hash].js" },
          // Node keeps the text: without spaces and comments it is half. Names stay, for stack traces.
          minify: { mangle: false, compress: false, codegen: { removeWhitespace: true } },
        },
      },
    },
  });
  return join(directory, "cli.js");
}

if (import.meta.main) console.log(await bundleCommands(join(ROOT, "node_modules/.cache/millrace-commands")));
