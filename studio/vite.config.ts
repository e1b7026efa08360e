/// <reference types="vitest/config" />
import { defineConfig } from "vite";

const server = process.env["PELLUCID_SERVER"] ?? "http://127.0.0.1:8600";

export default defineConfig({
  build: {
    outDir: "../pellucid/serving/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    // Nothing as a data: address: the policy of the pages allows files of this server alone.
    assetsInlineLimit: 0,
  },
  server: { proxy: { "/v1": server, "/studio.json": server } },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
