import { defineConfig } from "vite";
import solid from "vite-plugin-solid";
import { licenses } from "./tools/licenses.mjs";

// The admin API of a server whose page this replaces while it is written.
const api = process.env.TEAMTALK_ADMIN ?? "http://127.0.0.1:9091";

const proxy = Object.fromEntries(["/v1", "/session"].map((path) => [path, { target: api }]));

export default defineConfig({
  root: "admin",
  plugins: [solid(), licenses([])],
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    outDir: "../../../adminapi/console/dist",
    emptyOutDir: true,
  },
  server: { proxy },
} as any);
