import { defineConfig, type Plugin } from "vite";
import solid from "vite-plugin-solid";
import { licenses } from "./tools/licenses.mjs";

// The servers of `teamtalk serve --demo` with --msg.websocket-listen 127.0.0.1:8001.
const websocket = process.env.TEAMTALK_WS ?? "ws://127.0.0.1:8001";
const pictures = process.env.TEAMTALK_MSFS ?? "http://127.0.0.1:8700";
const register = process.env.TEAMTALK_REGISTER ?? "http://127.0.0.1:8400";

// The headers that the Go server sends, so that what it forbids fails here as well.
const headers = {
  "Content-Security-Policy":
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; " +
    "img-src 'self' blob: data:; connect-src 'self'; object-src 'none'; base-uri 'none'",
};

const config = JSON.stringify({
  websocket: "/ws",
  register: { enabled: true, invite: false },
  text_key: "12345678901234567890123456789012",
  files: false,
  name: "TeamTalk",
  version: "dev",
});

/** configJSON answers /config.json as the Go server does. */
function configJSON(): Plugin {
  const serve = (server: { middlewares: { use: (path: string, h: any) => void } }) => {
    server.middlewares.use("/config.json", (_req: unknown, res: any) => {
      res.setHeader("Content-Type", "application/json");
      res.end(config);
    });
  };
  return { name: "config-json", configureServer: serve, configurePreviewServer: serve };
}

const proxy = {
  "/ws": { target: websocket, ws: true, changeOrigin: true },
  "/msfs": {
    target: pictures,
    changeOrigin: true,
    rewrite: (p: string) => p.slice("/msfs".length),
  },
  "/register": { target: register, rewrite: () => "/query/Register" },
};

export default defineConfig({
  plugins: [solid(), configJSON(),
    licenses([["libspeex 1.2.1 (BSD-3-Clause)", "src/sound/speex.LICENSE"]])],
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  worker: { format: "es" },
  server: { proxy },
  preview: { proxy, headers },
  // No test fails because the machine is busy.
  test: { environment: "node", include: ["tests/**/*.test.ts"], testTimeout: 60_000,
    expect: { poll: { timeout: 30_000 } } },
} as any);
