// Builds ../static/explorer.js and ../static/explorer.css; the worker is text inside the former, so
// that the page needs no second file and runs from file:// too. With --tests: the unit tests.
import { build } from "esbuild";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const common = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  target: "es2022",
  legalComments: "none",
  charset: "ascii",
  jsx: "automatic",
  jsxImportSource: "preact",
  logLevel: "warning",
};
const out = process.argv.find((word) => word.startsWith("--out="))?.slice(6) ?? join(here, "../static");

if (process.argv.includes("--tests")) {
  const tests = readdirSync(join(here, "tests")).map((name) => `tests/${name}`);
  await build({
    ...common, minify: false, platform: "node", format: "esm", entryPoints: tests,
    outdir: "build/tests", outExtension: { ".js": ".test.mjs" },
  });
} else {
  const worker = await build({ ...common, entryPoints: ["raster/worker.ts"], write: false, format: "iife" });
  await build({
    ...common,
    entryPoints: { explorer: "main.tsx" },
    format: "iife",
    outdir: out,
    define: { __WORKER__: JSON.stringify(worker.outputFiles[0].text) },
  });
}
