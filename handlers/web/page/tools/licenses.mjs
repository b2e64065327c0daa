// A plugin of Vite that writes licenses.txt: the licences of the packages in the built files.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** folder returns the folder of the package that holds a module, or "". */
function folder(id) {
  const at = id.lastIndexOf("node_modules/");
  if (at < 0) return "";
  const rest = id.slice(at + "node_modules/".length).split("/");
  const name = rest[0].startsWith("@") ? rest.slice(0, 2).join("/") : rest[0];
  return id.slice(0, at) + "node_modules/" + name;
}

/** notice returns the name, version and licence of the package in a folder. */
function notice(dir) {
  const about = JSON.parse(readFileSync(join(dir, "package.json"), "utf8"));
  const file = readdirSync(dir).find((f) => /^licen[cs]e/i.test(f));
  const text = file && existsSync(join(dir, file)) ? readFileSync(join(dir, file), "utf8") : "";
  return `${about.name} ${about.version} (${about.license ?? "see below"})\n\n${text.trim()}\n`;
}

/** licenses lists the packages, and other works by their names with the files of their licences. */
export function licenses(others) {
  return {
    name: "licenses",
    apply: "build",
    generateBundle(_options, bundle) {
      const dirs = new Set();
      for (const chunk of Object.values(bundle))
        for (const id of Object.keys(chunk.modules ?? {})) dirs.add(folder(id.replace(/^\0/, "")));
      dirs.delete("");
      const notices = [...dirs].map(notice).sort();
      for (const [name, file] of others) {
        const path = join(import.meta.dirname, "..", file);
        notices.push(`${name}\n\n${readFileSync(path, "utf8").trim()}\n`);
      }
      const source = "Third-party software in this page.\n\n" +
        notices.join("\n" + "-".repeat(72) + "\n\n");
      this.emitFile({ type: "asset", fileName: "licenses.txt", source });
    },
  };
}
