// Builds the installable `millrace` into dist/: `npm pack` runs it, and removes dist/ afterwards (prepack, postpack). The image,
// the processes that tests start and bench/ run what it builds as well.
//
// Node runs TypeScript as it is, but not below node_modules, and not for free: of the 0.7 s of work that a start is, most is
// finding 800 files, and 40 MB of an idle gateway's memory are the stripper of types and what Node keeps of those files. So
// the commands are bundled into few files, with an entry for each thread and child process; beside them is what they read.
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Plugin } from "vite";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** What a file starts or reads: new URL("./worker.ts", import.meta.url), new URL("../../migrations", import.meta.url). */
const PLACE = /new URL\("(\.[^"\n]*)", import\.meta\.url\)/g;

/** Resolves with the file to run, which takes the arguments that services/cli.ts takes. Empties the directory first. */
export async function buildPackage(directory: string = join(ROOT, "dist")): Promise<string> {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const { version, type } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  writeFileSync(join(directory, "package.json"), `${JSON.stringify({ private: true, version, type })}\n`);
  const bundle = join(directory, "bundle");
  await build({
    root: ROOT,
    configFile: false,
    logLevel: "warn",
    plugins: [places(directory)],
    // Native code, what loads files of its own by name, and what we patch inside.
    ssr: {
      noExternal: true,
      external: ["chdb", "kafkajs", "kafkajs-snappy", "koffi", "lz4js", "pino"],
      target: "node",
    },
    build: {
      ssr: join(ROOT, "services/cli.ts"),
      outDir: bundle,
      emptyOutDir: false,
      target: "node24",
      minify: false,
      // For --enable-source-maps, which takes 10 MB more.
      sourcemap: true,
      license: { fileName: "licenses.md" },
      rolldownOptions: {
        external: [/^@opentelemetry\/(?!api$)/],
        output: {
          ...{ entryFileNames: "cli.js", chunkFileNames: "[name]-[hash].js" },
          // Node keeps the text: without spaces and comments it is half. Names stay, for stack traces.
          minify: { mangle: false, compress: false, codegen: { removeWhitespace: true } },
          sourcemapExcludeSources: true,
        },
      },
    },
  });
  return join(bundle, "cli.js");
}

/** What a source names by its place is found from the bundle, which is in a directory beside it. */
function places(directory: string): Plugin {
  return {
    name: "places of the sources",
    enforce: "pre",
    transform(code, id) {
      if (!id.startsWith(ROOT) || id.includes("node_modules")) return undefined;
      const found = code.replaceAll(PLACE, (_, name: string) => {
        const file = resolve(dirname(id), name);
        const path = relative(ROOT, file);
        if (path.endsWith(".ts")) {
          const script = path.replaceAll("/", "-").replace(/ts$/, "js");
          this.emitFile({ type: "chunk", id: file, fileName: script });
          return `new URL("./${script}", import.meta.url)`;
        }
        if (path !== "" && path !== "package.json") cpSync(file, join(directory, path), { recursive: true });
        return `new URL("../${path}", import.meta.url)`;
      });
      // On the same lines.
      return { code: found, map: null };
    },
  };
}

// Not to stdout, which `npm pack --json` has for itself.
if (import.meta.main) console.error(await buildPackage(process.argv[2]));
