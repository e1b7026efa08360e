/// <reference types="vitest/config" />
import { defineConfig } from "vite";

export default defineConfig({
  build: {
    outDir: "../pellucid/serving/static",
    emptyOutDir: true,
    target: "es2022",
    // light-dark() stays as it is written.
    cssTarget: ["chrome123", "firefox128", "safari17.5"],
    modulePreload: { polyfill: false },
    // Nothing as a data: address: the policy of the pages allows files of this server alone.
    assetsInlineLimit: 0,
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8600", "/studio.json": "http://127.0.0.1:8600" } },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
