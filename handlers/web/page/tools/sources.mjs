// Writes sources.sha256 into both folders that the build has written: the sha256 over all files of
// the page except dist and node_modules. For each file, in byte order of its path: the path, a line
// break, its size, a line break, its content. Tests of the servers compare it with the sources.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const page = join(import.meta.dirname, "..");

function files(dir) {
  return readdirSync(join(page, dir), { withFileTypes: true }).flatMap((entry) => {
    const path = dir ? dir + "/" + entry.name : entry.name;
    if (path === "dist" || path === "node_modules") return [];
    return entry.isDirectory() ? files(path) : [path];
  });
}

const hash = createHash("sha256");
for (const path of files("").sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
  const content = readFileSync(join(page, path));
  hash.update(`${path}\n${content.length}\n`).update(content);
}
const sum = hash.digest("hex") + "\n";
for (const dist of ["dist", "../../adminapi/console/dist"])
  writeFileSync(join(page, dist, "sources.sha256"), sum);
