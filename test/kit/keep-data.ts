// With KEEP_DATA=true: directories that tests make beneath the system's temporary one stay, and their names are printed.
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, resolve } from "node:path";

const { rm } = fs;
fs.rm = async (path, options) => {
  const place = resolve(String(path));
  if (dirname(place) !== resolve(tmpdir()) || !basename(place).startsWith("millrace-")) return rm(path, options);
  process.stdout.write(`kept: ${place}\n`);
};
syncBuiltinESMExports();
