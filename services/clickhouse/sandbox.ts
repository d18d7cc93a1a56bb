// Entry of the ClickHouse process: confines itself, then becomes child.ts. It replaces itself, because threads that Node
// started before are not confined with it. Where the system has nothing to confine with, it goes on without.
import { flushCompileCache } from "node:module";
import { fileURLToPath } from "node:url";
import { CHANNEL, confine } from "./confine.ts";

// From here on it can write nothing outside of its directory, and a process that replaces itself keeps nothing at its end.
flushCompileCache();
const [directory = "", port = "0"] = process.argv.slice(2);
const reason = process.platform === "linux" ? confine(directory, Number(port)) : "only Linux has Landlock";
if (reason === undefined) {
  const child = fileURLToPath(new URL("./child.ts", import.meta.url));
  process.execve?.(process.execPath, [process.execPath, child], {
    ...process.env,
    NODE_CHANNEL_FD: String(CHANNEL),
  });
}
process.env.MILLRACE_NOT_CONFINED = reason ?? "the process could not replace itself";
await import("./child.ts");
