// Completes package-lock.json for platforms whose binaries the registry at hand does not carry.
// npm drops an optional dependency it cannot resolve from the lock without a word, and `npm ci` then refuses the lock
// ("Missing: X from lock file"). A stub entry (version, cpu, os, optional) is enough for `npm ci` to skip it elsewhere.
// Run by hand after each change of dependencies: `npm run lock`.
import { readFileSync, writeFileSync } from "node:fs";

interface LockEntry {
  version?: string;
  cpu?: string[];
  os?: string[];
  libc?: string[];
  optional?: boolean;
  optionalDependencies?: Record<string, string>;
}

const lockUrl = new URL("../package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(lockUrl, "utf8")) as { packages: Record<string, LockEntry> };
const CPUS = ["arm64", "x64", "ia32", "arm", "armv7", "ppc64", "s390x", "riscv64", "loong64", "wasm32", "mips64el"];
const SYSTEMS = ["darwin", "linux", "win32", "android", "freebsd", "openbsd", "netbsd", "sunos", "aix", "openharmony"];

/** Platform words as npm package names spell them: `@x/cli-linux-x64-musl` → {cpu: x64, os: linux, libc: musl}. */
function platformOf(name: string): Pick<LockEntry, "cpu" | "os" | "libc"> {
  const words = name.split(/[^a-z0-9]+/i);
  const cpu = CPUS.find((c) => words.includes(c));
  const os = SYSTEMS.find((s) => words.includes(s));
  const libc = words.includes("musl") ? "musl" : os === "linux" ? "glibc" : undefined;
  return {
    ...(cpu ? { cpu: [cpu === "armv7" ? "arm" : cpu] } : {}),
    ...(os ? { os: [os] } : {}),
    ...(libc && os === "linux" ? { libc: [libc] } : {}),
  };
}

let added = 0;
for (const entry of Object.values({ ...lock.packages })) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const path = `node_modules/${name}`;
    if (lock.packages[path]) continue;
    lock.packages[path] = { version, ...platformOf(name), optional: true };
    added++;
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(lockUrl, `${JSON.stringify(lock, null, 2)}\n`);
process.stdout.write(`lock: ${added} stub entries added\n`);
