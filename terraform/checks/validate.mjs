// usage: terraform validate -json | node validate.mjs DEPRECATIONS…
// Prints what terraform found, one paragraph each, and fails if there is anything. DEPRECATIONS are the
// lists of deprecations.mjs: what they name is unknown to terraform here, and this adds why.
import { readFileSync } from "node:fs";

const { diagnostics } = JSON.parse(readFileSync(0, "utf8"));
const deprecations = process.argv.slice(2).flatMap((file) => Object.entries(JSON.parse(readFileSync(file, "utf8"))));

const findings = diagnostics.filter(({ summary }) => summary !== "Provider development overrides are in effect");
for (const finding of findings) {
  const { filename, start } = finding.range ?? { filename: "(no file)", start: { line: 0 } };
  console.log(`${filename}:${start.line}: ${finding.summary}: ${[finding.detail, deprecationOf(finding)].join(" ").trim()}`);
}
process.exitCode = findings.length > 0 ? 1 : 0;

function deprecationOf({ detail, snippet }) {
  const name = /named "(\w+)"|type "(\w+)" are not expected/.exec(detail)?.slice(1).find(Boolean);
  for (const [type, fields] of deprecations) {
    const [kind, typeName] = type.split(".");
    const declared = snippet?.context?.startsWith(`${kind} "${typeName}"`);
    const referred = new RegExp(`${kind === "data" ? "\\bdata\\." : "(?<!data\\.)\\b"}${typeName}\\.`).test(snippet?.code ?? "");
    if (!declared && !referred) continue;
    const path = Object.keys(fields).find((each) => each === name || each.endsWith(`.${name}`));
    if (path) return `It is deprecated: ${fields[path]}`;
  }
  return "";
}
