// What a release consists of: packages that can only be packed built, and one version everywhere.
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { versionsIn } from "../../scripts/set-version.ts";
import { patience } from "../kit/patience.ts";
import { must } from "../kit/sdk-packages.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PACKAGES = ["node", "browser", "react"];
/** npm and a compiler run, on whatever else runs as well. */
const PACK_MS_MAX = patience(180_000);
const read = (path: string) => readFile(join(ROOT, path), "utf8");

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "millrace-release-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe.each(PACKAGES)("sdk/%s", { timeout: PACK_MS_MAX }, (name) => {
  it("is built by npm pack of a fresh checkout, license included", async () => {
    const checkout = join(folder, name, "checkout");
    for (const path of ["gen", "lib", "scripts", "sdk", "package.json", "tsconfig.json", "LICENSE"]) {
      const isSource = (file: string) => !/\/sdk\/\w+\/(dist|\.cache)(\/|$)/.test(file);
      await cp(join(ROOT, path), join(checkout, path), { recursive: true, filter: isSource });
    }
    await installedAs(checkout);
    await must("npm", ["pack", "--pack-destination", folder, "--silent"], join(checkout, "sdk", name));
    const { name: packageName, version } = JSON.parse(await read(`sdk/${name}/package.json`)) as Record<string, string>;
    const tarball = join(folder, `${packageName?.slice(1).replace("/", "-")}-${version}.tgz`);
    const files = (await must("tar", ["-tzf", tarball])).trim().split("\n");
    const wanted = ["LICENSE", "README.md", "dist/index.d.ts", "dist/index.js", "package.json"];
    expect(files).toEqual(expect.arrayContaining(wanted.map((path) => `package/${path}`)));
  });

  it("cannot be packed where it cannot be built", async () => {
    const alone = join(folder, name, "alone");
    await cp(join(ROOT, "sdk", name), alone, { recursive: true, filter: (file) => !file.endsWith("/dist") });
    await expect(must("npm", ["pack", "--silent"], alone)).rejects.toThrow("Cannot find module");
    expect((await readdir(alone)).filter((file) => file.endsWith(".tgz"))).toEqual([]);
  });

  it("says where its sources are, and is published for everybody, with provenance", async () => {
    expect(JSON.parse(await read(`sdk/${name}/package.json`))).toMatchObject({
      publishConfig: { access: "public", provenance: true },
      repository: { url: "git+https://github.com/millrace/millrace.git", directory: `sdk/${name}` },
    });
  });
});

/** The dependencies of this checkout, with the other checkout's own packages among them. */
async function installedAs(checkout: string): Promise<void> {
  const modules = join(checkout, "node_modules");
  await mkdir(join(modules, "@millrace"), { recursive: true });
  for (const each of await readdir(join(ROOT, "node_modules"))) {
    if (each !== "@millrace") await symlink(join(ROOT, "node_modules", each), join(modules, each));
  }
  const names = { node: "client", browser: "browser", react: "react" };
  for (const [place, name] of Object.entries(names))
    await symlink(join(checkout, "sdk", place), join(modules, "@millrace", name));
}

it("the version is the same in every file that names it", async () => {
  const { version } = JSON.parse(await read("package.json")) as { version: string };
  const named = await versionsIn(ROOT);
  expect(named.length).toBeGreaterThan(10);
  expect(named.filter((each) => each.version !== version)).toEqual([]);
});
