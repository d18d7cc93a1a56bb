// Containers of one mounted image, run by crun: the image's own user, entry point and environment, a root that is read only,
// no rights, no network but that of the process that starts them. That has to be in namespaces of its own.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type Finished, run } from "../../test/kit/standalone.ts";
import type { Image } from "./build.ts";

/** Killed with -9 when disposed. */
export interface Container extends AsyncDisposable {
  readonly name: string;
  /** Process 1 of the container, as the caller sees it. */
  pid(): Promise<number>;
  /** Runs a program beside it, as `docker exec` does. */
  exec(args: readonly string[]): Promise<Finished>;
  signal(name: string): Promise<void>;
  /** Its exit code and all it printed. */
  readonly ended: Promise<{ code: number | null; output: string }>;
}

/** What a container gets of the kernel, of which nothing can be written but the devices: no tmp, no shm. */
const MOUNTS = [
  { destination: "/proc", type: "proc", source: "proc" },
  { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755", "size=64k"] },
];

/** `args` follow the image's entry point, unless another one is given. */
export async function startContainer(
  image: Image,
  {
    name,
    args,
    env = {},
    entrypoint,
  }: { name: string; args: string[]; env?: Record<string, string>; entrypoint?: string[] },
): Promise<Container> {
  const { config, rootfs } = image;
  const [uid, gid] = config.User.split(":").map(Number);
  const bundle = join(image.directory, name);
  await mkdir(bundle);
  const none = { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] };
  const process = {
    user: { uid, gid },
    args: [...(entrypoint ?? config.Entrypoint), ...args],
    env: [...config.Env, ...Object.entries(env).map(([key, value]) => `${key}=${value}`)],
    cwd: config.WorkingDir,
    noNewPrivileges: true,
    capabilities: none,
  };
  const namespaces = ["pid", "mount", "ipc", "uts"].map((type) => ({ type }));
  const spec = { ociVersion: "1.0.2", process, root: { path: rootfs, readonly: true }, hostname: name, mounts: MOUNTS };
  await writeFile(join(bundle, "config.json"), JSON.stringify({ ...spec, linux: { namespaces } }));
  const options = ["--cgroup-manager=disabled", "--root", join(image.directory, "crun")];
  const crun = (...given: readonly string[]) => run("crun", [...options, ...given]);
  const child = spawn("crun", [...options, "run", "--bundle", bundle, name], { stdio: ["ignore", "pipe", "pipe"] });
  const printed = Promise.all([text(child.stdout), text(child.stderr)]);
  const ended = once(child, "close").then(async ([code]) => ({ code, output: (await printed).join("") }));
  return {
    name,
    pid: async () => (JSON.parse((await crun("state", name)).stdout) as { pid: number }).pid,
    exec: (program) => crun("exec", "--cwd", config.WorkingDir, name, ...program),
    signal: async (signal) => void (await crun("kill", name, signal)),
    ended,
    async [Symbol.asyncDispose]() {
      await crun("kill", name, "KILL");
      await ended;
    },
  };
}
