// Drivers of other languages for tests, fetched from their registries on first use.
import { execFile, execFileSync } from "node:child_process";
import { hash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { CACHE, hashOfFiles } from "./cache.ts";
import { patience } from "./patience.ts";

const SOURCES = fileURLToPath(new URL("../drivers", import.meta.url));
const BUILT = `${CACHE}/drivers`;
const PACKAGES = ["clickhouse-connect[sqlalchemy]==1.12.0", "sqlalchemy==2.1.*", "pandas", "pyarrow"];
/** Clients that send events. */
const POSTHOG = ["posthog==7.91.1"];
const EVENT_CLIENTS = ["segment-analytics-python==2.4.0", "rudder-sdk-python==2.1.9"];
const run = promisify(execFile);

export interface DriverProgram {
  /** What the machine needs for it. */
  tools: readonly [command: string, ...arguments_: string[]][];
  /** Runs the program against a server on loopback and resolves with the lines it prints. */
  lines(port: number, ...arguments_: string[]): Promise<string[]>;
}

export const DRIVERS: Readonly<
  Record<
    | "go"
    | "java"
    | "posthogGo"
    | "posthogPython"
    | "posthogPythonKilled"
    | "python"
    | "segmentPython"
    | "segmentPythonKilled",
    DriverProgram
  >
> = {
  go: {
    tools: [["go", "version"]],
    async lines(port) {
      return output(await goProgram("go"), [`127.0.0.1:${port}`]);
    },
  },
  java: {
    tools: [
      ["java", "-version"],
      ["mvn", "--version"],
    ],
    async lines(port) {
      const pom = `${SOURCES}/java/pom.xml`;
      const jars = await prepared(`java-${hashOfFiles([pom])}`, (directory) => {
        const goal = ["dependency:copy-dependencies", `-DoutputDirectory=${directory}`];
        return run("mvn", ["-q", "-B", "-f", pom, ...goal]);
      });
      return output("java", [
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-cp",
        `${jars}/*`,
        `${SOURCES}/java/Drivers.java`,
        `127.0.0.1:${port}`,
      ]);
    },
  },
  posthogGo: {
    tools: [["go", "version"]],
    async lines(port, ...arguments_) {
      return output(await goProgram("posthog-go"), [`127.0.0.1:${port}`, ...arguments_]);
    },
  },
  posthogPython: pythonProgram("python-posthog", POSTHOG, "posthog_client.py"),
  posthogPythonKilled: pythonProgram("python-posthog", POSTHOG, "killed.py"),
  python: pythonProgram("python", PACKAGES, "drivers.py"),
  segmentPython: pythonProgram("python-segment", EVENT_CLIENTS, "segment_clients.py"),
  segmentPythonKilled: pythonProgram("python-segment", EVENT_CLIENTS, "killed.py"),
};

/** The path of test/drivers/NAME, built. */
export async function goProgram(name: string): Promise<string> {
  const source = `${SOURCES}/${name}`;
  const files = ["main.go", "go.mod", "go.sum"].map((file) => `${source}/${file}`);
  const directory = await prepared(`${name}-${hashOfFiles(files)}`, (place) =>
    run("go", ["build", "-o", `${place}/program`, "."], { cwd: source }),
  );
  return `${directory}/program`;
}

function pythonProgram(name: string, packages: readonly string[], file: string): DriverProgram {
  return {
    tools: [["python3", "-c", "import venv, ensurepip"]],
    async lines(port, ...arguments_) {
      const environment = await prepared(
        `${name}-${hash("sha256", packages.join()).slice(0, 12)}`,
        async (directory) => {
          await run("python3", ["-m", "venv", directory]);
          await run(`${directory}/bin/python`, [
            ...["-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"],
            ...packages,
          ]);
        },
      );
      return output(`${environment}/bin/python`, [`${SOURCES}/python/${file}`, `127.0.0.1:${port}`, ...arguments_]);
    },
  };
}

/** True when the machine has what the driver needs. */
export function isAvailable(driver: DriverProgram): boolean {
  return driver.tools.every(([command, ...arguments_]) => {
    try {
      execFileSync(command, arguments_, { stdio: "ignore", timeout: patience(60_000) });
      return true;
    } catch {
      return false;
    }
  });
}

/** Made beside and renamed, so that a run that is interrupted never leaves half of it. */
async function prepared(name: string, make: (directory: string) => Promise<unknown>): Promise<string> {
  const directory = `${BUILT}/${name}`;
  if (existsSync(directory)) return directory;
  const staging = `${directory}.${process.pid}`;
  await mkdir(staging, { recursive: true });
  await make(staging);
  await rename(staging, directory).catch(async (error: unknown) => {
    await rm(staging, { recursive: true, force: true });
    if (!existsSync(directory)) throw error;
  });
  return directory;
}

async function output(command: string, arguments_: string[]): Promise<string[]> {
  const { stdout } = await run(command, arguments_, { maxBuffer: 16 * 1024 * 1024 });
  return stdout.trim().split("\n");
}
