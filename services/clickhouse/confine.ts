// What Linux's Landlock lets the ClickHouse process do: read its own code, write its data directory and listen on its port,
// and nothing else, whatever SQL makes of the engine. The kernel is asked through koffi.
import { closeSync, fstatSync, mkdirSync, openSync, readdirSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Node's IPC channel, behind the three standard streams: it must outlive the exec that follows. */
export const CHANNEL = 3;

// System calls of the kernel's generic table, the same on every architecture that Node runs on.
const CREATE_RULESET = 444;
const ADD_RULE = 445;
const RESTRICT_SELF = 446;
const PATH_BENEATH = 1;
const NET_PORT = 2;
const PR_SET_NO_NEW_PRIVS = 38;
const F_SETFD = 2;
const O_PATH = 0o10000000;

const EXECUTE = 1n;
const WRITE_FILE = 2n;
const READ_FILE = 4n;
const READ = READ_FILE | 8n;
const BIND_TCP = 1n;

interface Kernel {
  syscall(number: number, a: number | Uint8Array | null, b: number, c: Uint8Array | number | null, d: number): number;
  prctl(option: number, value: number): number;
  fcntl(descriptor: number, command: number, value: number): number;
}

/** Rights to files that each version of Landlock knows: a bit each. */
const FILE_RIGHTS_BY_VERSION = [13, 14, 15, 15, 16];
/** The rights that a file has; the others are a directory's. */
const RIGHTS_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | (1n << 14n) | (1n << 15n);

/**
 * Undefined when the calling thread is confined, and with it all that it starts and becomes; otherwise why it is not. It may
 * then use the files of `directory` and listen on `port` (0: a free one).
 */
export function confine(directory: string, port: number): string | undefined {
  const kernel = openKernel();
  if (kernel === undefined) return "the package koffi is not installed";
  const version = kernel.syscall(CREATE_RULESET, null, 0, 1, 0);
  if (version < 1) return "this kernel has no Landlock";
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch {
    return "the data directory cannot be made";
  }
  const fileRights = (1n << BigInt(FILE_RIGHTS_BY_VERSION[Math.min(version, 5) - 1] ?? 13)) - 1n;
  const handled = words(fileRights, version >= 4 ? 3n : 0n, version >= 6 ? 3n : 0n);
  const ruleset = kernel.syscall(CREATE_RULESET, handled, version >= 6 ? 24 : version >= 4 ? 16 : 8, 0, 0);
  if (ruleset < 0) return "the kernel refused the rules";
  for (const [path, rights] of filesOf(directory, fileRights)) allowPath(kernel, ruleset, path, rights & fileRights);
  if (version >= 4) kernel.syscall(ADD_RULE, ruleset, NET_PORT, words(BIND_TCP, BigInt(port)), 0);
  kernel.prctl(PR_SET_NO_NEW_PRIVS, 1);
  if (kernel.syscall(RESTRICT_SELF, ruleset, 0, 0, 0) !== 0) return "the kernel refused to confine this process";
  kernel.fcntl(CHANNEL, F_SETFD, 0);
  return undefined;
}

/** What the process may do with which files: read code and the machine's figures, own the data, run itself once. */
function filesOf(directory: string, all: bigint): [path: string, rights: bigint][] {
  const require = createRequire(import.meta.url);
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const code = ["lib", "services", "gen", "bundle", "package.json", "node_modules"].map((name) => join(root, name));
  for (const name of ["chdb/package.json", "lz4js/package.json"]) {
    try {
      // Installed beside this package or above it.
      code.push(dirname(dirname(realpathSync(require.resolve(name)))));
    } catch {
      // The child says what is missing.
    }
  }
  const figures = ["cpuinfo", "meminfo", "stat", "loadavg", "self"].map((name) => `/proc/${name}`);
  const system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/localtime"];
  const others = ["/etc/ld.so.cache", "/etc/ssl/openssl.cnf", "/sys/fs/cgroup", "/sys/devices/system", "/dev/urandom"];
  const loaders = ["/lib", "/lib64"].flatMap((place) => loadersIn(place));
  const coverage = process.env.NODE_V8_COVERAGE;
  return [
    ...[...code, ...figures, ...system, ...others].map((path): [string, bigint] => [path, READ]),
    ...[process.execPath, ...loaders].map((path): [string, bigint] => [path, READ | EXECUTE]),
    ["/dev/null", READ_FILE | WRITE_FILE],
    [directory, all & ~EXECUTE],
    ...(coverage === undefined ? [] : [[coverage, all & ~EXECUTE] as [string, bigint]]),
  ];
}

/** The program that starts programs: Node's own file is run by it. */
function loadersIn(place: string): string[] {
  try {
    return readdirSync(place)
      .filter((name) => /^ld-.*\.so/.test(name))
      .map((name) => join(place, name));
  } catch {
    return [];
  }
}

function allowPath(kernel: Kernel, ruleset: number, path: string, rights: bigint): void {
  let descriptor: number;
  try {
    descriptor = openSync(path, O_PATH);
  } catch {
    // What is not there need not be allowed.
    return;
  }
  const allowed = fstatSync(descriptor).isDirectory() ? rights : rights & RIGHTS_OF_FILES;
  const rule = Buffer.alloc(12);
  rule.writeBigUInt64LE(allowed);
  rule.writeInt32LE(descriptor, 8);
  kernel.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, 0);
  closeSync(descriptor);
}

function words(...values: bigint[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8);
  for (const [at, value] of values.entries()) bytes.writeBigUInt64LE(value, at * 8);
  return bytes;
}

function openKernel(): Kernel | undefined {
  let koffi: typeof import("koffi");
  try {
    koffi = createRequire(import.meta.url)("koffi");
  } catch {
    return undefined;
  }
  const libc = koffi.load(null);
  const withBuffers = libc.func("long syscall(long number, void* a, long b, long c)");
  const withRule = libc.func("long syscall(long number, long a, long b, void* c, long d)");
  const plain = libc.func("long syscall(long number, long a, long b, long c)");
  return {
    syscall(number, a, b, c, d) {
      if (c instanceof Uint8Array) return withRule(number, a, b, c, d);
      return typeof a === "number" ? plain(number, a, b, c ?? 0) : withBuffers(number, a, b, c ?? 0);
    },
    prctl: libc.func("int prctl(int option, unsigned long value)"),
    fcntl: libc.func("int fcntl(int descriptor, int command, int value)"),
  };
}
