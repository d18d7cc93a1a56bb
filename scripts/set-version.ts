// `npm run set-version -- 0.2.0`: writes the version of a release into every file that names it, and dates the changelog.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const VERSION = String.raw`(\d+\.\d+\.\d+(?:-[\w.]+)?)`;
const MANIFEST = `"version": "${VERSION}"`;
const OWN_DEPENDENCY = `"@millrace/\\w+": "${VERSION}"`;
const IMAGE = `millrace:${VERSION}`;

/** Where the version stands in each file: the group of each pattern. A pattern that matches nothing is a fault. */
const PLACES: Record<string, readonly string[]> = {
  "package.json": [MANIFEST],
  "README.md": [`millrace-${VERSION}\\.tgz`],
  "package-lock.json": [`"name": "(?:millrace|@millrace/\\w+)",\\s+${MANIFEST}`, OWN_DEPENDENCY],
  "sdk/node/package.json": [MANIFEST],
  "sdk/browser/package.json": [MANIFEST],
  "sdk/browser/src/transport.ts": [`VERSION = "${VERSION}"`],
  "sdk/react/package.json": [MANIFEST, OWN_DEPENDENCY],
  "examples/node-service/package.json": [OWN_DEPENDENCY],
  "examples/vite-react/package.json": [OWN_DEPENDENCY],
  "docker-compose.yml": [IMAGE],
  ".env.example": [IMAGE],
  "k8s/chart/Chart.yaml": [`(?:version|appVersion): ${VERSION}`],
  "k8s/kustomize/base/20-migrate.yaml": [`migrate-${VERSION}`, IMAGE],
  "k8s/kustomize/base/30-gateway.yaml": [IMAGE],
  "k8s/kustomize/base/31-consumer.yaml": [IMAGE],
  "k8s/kustomize/base/32-relay.yaml": [IMAGE],
  "k8s/kustomize/base/33-stats.yaml": [IMAGE],
  "k8s/kustomize/overlays/production/kustomization.yaml": [`newTag: ${VERSION}`],
  "docs/deploy/kubernetes.md": [`migrate-${VERSION}`],
};

/** Every place that names the version, and the version it names. Rejects when a pattern matches nothing. */
export async function versionsIn(root: string): Promise<{ path: string; version: string }[]> {
  const found: { path: string; version: string }[] = [];
  for (const [path, patterns] of Object.entries(PLACES)) {
    const text = await readFile(join(root, path), "utf8");
    for (const pattern of patterns) {
      const versions = [...text.matchAll(new RegExp(pattern, "g"))].map(([, version = ""]) => version);
      if (versions.length === 0) throw new Error(`${path}: nothing matches ${pattern}`);
      found.push(...versions.map((version) => ({ path, version })));
    }
  }
  return found;
}

async function setVersion(root: string, version: string): Promise<void> {
  for (const [path, patterns] of Object.entries(PLACES)) {
    let text = await readFile(join(root, path), "utf8");
    for (const pattern of patterns)
      text = text.replaceAll(new RegExp(pattern, "g"), (match, old: string) => match.replace(old, version));
    await writeFile(join(root, path), text);
  }
  const changelog = join(root, "CHANGELOG.md");
  const heading = `## [Unreleased]\n\n## [${version}] - ${new Date().toISOString().slice(0, 10)}`;
  await writeFile(changelog, (await readFile(changelog, "utf8")).replace("## [Unreleased]", heading));
}

if (import.meta.main) {
  const [version = ""] = process.argv.slice(2);
  if (new RegExp(`^${VERSION}$`).test(version))
    await setVersion(fileURLToPath(new URL("..", import.meta.url)), version);
  else {
    process.stderr.write("usage: npm run set-version -- 0.2.0\n");
    process.exitCode = 2;
  }
}
