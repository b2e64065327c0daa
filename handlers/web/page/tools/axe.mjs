// Copies axe-core beside the tests: those of cmd/teamtalk/e2e check the page with it in a browser,
// and need no Node.js. The page itself does not hold it.
import { copyFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const path = (name) => fileURLToPath(new URL("../" + name, import.meta.url));
copyFileSync(path("node_modules/axe-core/axe.min.js"), path("tests/axe.min.js"));
