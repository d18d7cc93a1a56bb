// The image by Debian's own tools, without Docker: a small base with Node of npm, then the Dockerfile by buildah. To be run
// in a mount namespace of its own, with which everything that is mounted goes.
import { existsSync } from "node:fs";
import { appendFile, copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { must } from "../../test/kit/sdk-packages.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** Debian's release in the Dockerfile's NODE_IMAGE. */
const RELEASE = "bookworm";
/** What the Dockerfile's commands and Node need, and what they depend on; unpacked, not configured. */
const PACKAGES = ["base-files", "coreutils", "dash", "ca-certificates", "libstdc++6", "tzdata"];
const NPM = "npm@11.19.0";
const BASE = "localhost/node-base";
const IMAGE = "millrace:check";
const PASSWD = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n";
const GROUP = "root:x:0:\nnode:x:1000:\n";

/** The image's settings as Docker has them. */
export interface ImageConfig {
  User: string;
  Env: string[];
  Entrypoint: string[];
  Cmd: string[];
  WorkingDir: string;
  StopSignal: string;
  /** Test: ["CMD", program, …]. */
  Healthcheck: { Test: string[] };
}

export interface Image {
  /** Where it was built, for more files that go with it. */
  directory: string;
  /** Its file system, mounted. */
  rootfs: string;
  config: ImageConfig;
  baseBytes: number;
  bytes: number;
}

/** Builds the Dockerfile of this checkout in an empty directory: a minute and more, of which most is installing the bundler. */
export async function buildImage(directory: string): Promise<Image> {
  const buildah = await createBuildah(directory);
  const baseBytes = await makeBase(buildah);
  const npm = await npmMounts(directory);
  // Docker's format: the other one has no health check.
  const build = ["bud", "--quiet", "--isolation", "chroot", "--format", "docker", "--pull=never"];
  await buildah([...build, ...npm, "--build-arg", `NODE_IMAGE=${BASE}`, "--tag", IMAGE, ROOT]);
  const inspected = await buildah(["inspect", "--type", "image", IMAGE]);
  const { Docker } = JSON.parse(inspected) as { Docker: { config: ImageConfig } };
  const container = (await buildah(["from", "--pull=never", IMAGE])).trim();
  const rootfs = (await buildah(["mount", container])).trim();
  return { directory, rootfs, config: Docker.config, baseBytes, bytes: await bytesBelow(rootfs) };
}

/** What node:24-bookworm-slim is, without what the image does not use, such as apt, bash and locales. */
async function makeBase(buildah: Buildah): Promise<number> {
  const container = (await buildah(["from", "scratch"])).trim();
  const place = (await buildah(["mount", container])).trim();
  await must("mmdebstrap", ["--quiet", "--variant=extract", `--include=${PACKAGES.join(",")}`, RELEASE, place]);
  // Every runtime makes its own.
  await must("sh", ["-c", 'rm -rf "$0"/dev/*', place]);
  await writeFile(join(place, "etc/passwd"), PASSWD);
  await writeFile(join(place, "etc/group"), GROUP);
  await mkdir(join(place, "usr/local/bin"), { recursive: true });
  await copyFile(process.execPath, join(place, "usr/local/bin/node"));
  const quiet = ["--silent", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"];
  await must("npm", ["install", "--global", "--prefix", join(place, "usr/local"), NPM, ...quiet]);
  const bytes = await bytesBelow(place);
  await buildah(["commit", "--quiet", "--format", "docker", container, BASE]);
  await buildah(["rm", container]);
  return bytes;
}

async function bytesBelow(directory: string): Promise<number> {
  return Number.parseInt(await must("du", ["--bytes", "--summarize", directory]), 10);
}

type Buildah = (args: readonly string[]) => Promise<string>;

/** With a storage of its own. Where the file system cannot be layered, every layer is a copy. */
async function createBuildah(directory: string): Promise<Buildah> {
  const storedIn =
    (driver: string): Buildah =>
    (args) => {
      const storage = [
        "--storage-driver",
        driver,
        "--root",
        join(directory, driver),
        "--runroot",
        join(directory, "run"),
      ];
      return must("buildah", [...storage, ...args]);
    };
  const overlay = storedIn("overlay");
  try {
    const container = (await overlay(["from", "scratch"])).trim();
    await overlay(["mount", container]);
    await overlay(["rm", container]);
    return overlay;
  } catch {
    return storedIn("vfs");
  }
}

/** This machine's settings of npm, its cache, and whom it trusts, for the `npm ci` of the Dockerfile. */
async function npmMounts(directory: string): Promise<string[]> {
  const setting = async (name: string) => (await must("npm", ["config", "get", name])).trim();
  const settings = join(directory, "npmrc");
  const userFile = await setting("userconfig");
  if (existsSync(userFile)) await copyFile(userFile, settings);
  await appendFile(settings, `\nprefer-offline=true\nregistry=${await setting("registry")}\n`);
  const mounts = [`${settings}:/root/.npmrc:ro`, `${await setting("cache")}:/root/.npm`];
  const authorities = await setting("cafile");
  if (existsSync(authorities)) {
    await appendFile(settings, "cafile=/root/.npm-ca\n");
    mounts.push(`${authorities}:/root/.npm-ca:ro`);
  }
  return mounts.flatMap((mount) => ["--volume", mount]);
}
