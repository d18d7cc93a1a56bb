// The image, built by the Dockerfile and run as containers are, without Docker: what `npm run check:image` finds.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { imageForTests } from "../../scripts/check-image.ts";
import { patience } from "../kit/patience.ts";

const CHECK = fileURLToPath(new URL("../../scripts/check-image.ts", import.meta.url));
const MS_MAX = patience(300_000);

const image = imageForTests();
if (!image.available)
  process.stderr.write(`\n*** THE IMAGE IS NOT BUILT: ${image.reason}; ${image.install ?? ""} ***\n\n`);

it("is not tried without root, and says what else there is", () => {
  expect(imageForTests(1000)).toEqual({ available: false, reason: expect.stringContaining("docker build") });
});

// Where only packages are missing it is skipped, which CI does not forgive.
if (image.available || image.install !== undefined) {
  it.skipIf(!image.available)(
    "every service of the image is healthy and confined, takes events to their rows, and ends at SIGTERM",
    async () => {
      const { stdout } = await promisify(execFile)(process.execPath, [CHECK], { timeout: MS_MAX });
      const found = stdout.match(/^ok {3}\w+(?=: (?:healthy|user|ended))/gm) ?? [];
      for (const service of ["gateway", "consumer", "relay", "stats"])
        expect(found.filter((line) => line.endsWith(service))).toHaveLength(3);
      expect(stdout).toMatch(
        /^ok {3}verify:e2e: .*events: 64 rows, each event once.*relay: 1 point.*stats: answers; ok$/m,
      );
      expect(stdout).toMatch(/^ok {3}no directory and no file can be written to$/m);
    },
    MS_MAX,
  );
}
