// Programs bundled from sources in a folder with the packages that are installed there, as an app's build does.
import { cp, mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build, type Rolldown } from "vite";
import { must } from "../../kit/sdk-packages.ts";

const SOURCES = ["react-app.jsx", "react-page.jsx", "react-server.jsx"];

/** Copies the components that the tests show; they find their packages in the folder. */
export async function copyReactApp(folder: string): Promise<void> {
  await mkdir(join(folder, "app"));
  const place = (name: string) => fileURLToPath(new URL(name, import.meta.url));
  await Promise.all(SOURCES.map((name) => cp(place(name), join(folder, "app", name))));
}

/** One script from `source`, a file of the folder. In development mode StrictMode does what it is for. */
export async function bundle(folder: string, source: string, external: RegExp[] = []): Promise<string> {
  const [built] = (await build({
    root: folder,
    configFile: false,
    // It warns of "use client", which has no meaning for it.
    logLevel: "error",
    define: { "process.env.NODE_ENV": '"development"' },
    build: {
      write: false,
      minify: false,
      target: "es2022",
      lib: { entry: join(folder, source), formats: ["es"], fileName: "bundle" },
      rolldownOptions: { external },
    },
  })) as Rolldown.RolldownOutput[];
  const entry = built?.output.find((part) => part.type === "chunk" && part.isEntry);
  if (entry?.type !== "chunk") throw new Error(`${source} gave no script`);
  return entry.code;
}

/** Runs `source` with Node, its JSX compiled, the packages those of the folder; resolves with what it printed. */
export async function runOnServer(folder: string, source: string, args: string[] = []): Promise<string> {
  const file = join(folder, `${basename(source)}.mjs`);
  await writeFile(file, await bundle(folder, source, [/^react/, /^@millrace/]));
  return must(process.execPath, [file, ...args], folder);
}
