// usage: node deprecations.mjs SCHEMA PULUMI >deprecations.json
// Takes what the provider calls deprecated out of SCHEMA (schema.mjs wrote it), so that terraform
// refuses it, and lists it for validate.mjs, which says why:
//   {"data.aws_region": {"name": "name is deprecated. Use region instead."}, …}
// The bindings that schema.mjs reads do not carry this. The npm packages @pulumi/aws and @pulumi/random
// (unpacked in the folder PULUMI) do, generated from the same providers. They name types their own way,
// so each is found by its arguments: aws_db_instance is the rds/instance whose arguments are the same.
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const [schemaFile, pulumi] = process.argv.slice(2);
const schema = JSON.parse(readFileSync(schemaFile, "utf8"));
const modules = ["", ...readdirSync(pulumi).filter((each) => statSync(join(pulumi, each)).isDirectory())];
const inputsFile = join(pulumi, "types", "input.d.ts");
const inputs = existsSync(inputsFile) ? readInputs(readFileSync(inputsFile, "utf8")) : {};

const deprecations = {};
for (const [name, block] of Object.entries(schema.resources)) note(`resource.${name}`, block);
for (const [name, block] of Object.entries(schema.data_sources)) note(`data.${name}`, block);
writeFileSync(schemaFile, JSON.stringify(schema, null, 1));
console.log(JSON.stringify(deprecations, null, 1));

function note(type, block) {
  const isData = type.startsWith("data.");
  const names = Object.entries({ ...block.attributes, ...block.blocks });
  const written = names.filter(([, field]) => !field.type || field.required || field.optional).map(([name]) => name);
  const best = candidates(type.split(".")[1], isData)
    .map((each) => ({ ...each, score: similarity(written, each.arguments) }))
    .sort((a, b) => b.score - a.score)[0];
  if (!best || best.score < 0.6) {
    throw new Error(`${type}: no type of @pulumi/aws has its arguments (nearest: ${best?.file} ${best?.score})`);
  }
  const found = {};
  collect(block, best.arguments, "");
  collect(block, best.results, "");
  if (Object.keys(found).length > 0) deprecations[type] = found;

  function collect(block, fields, path) {
    for (const name of [...Object.keys(block.attributes), ...Object.keys(block.blocks)]) {
      const field = lookUp(fields, name);
      // tags_all is deprecated by Pulumi alone.
      if (field?.deprecated && name !== "tags_all") {
        found[path + name] = field.deprecated;
        delete block.attributes[name];
        delete block.blocks[name];
      } else if (field?.inner && block.blocks[name]) {
        collect(block.blocks[name].block, field.inner, `${path}${name}.`);
      }
    }
  }
}

// aws_nat_gateway may be ec2/natGateway, nat/gateway or natGateway of any module.
function candidates(type, isData) {
  const words = type.split("_");
  const found = [];
  for (let start = 0; start < words.length; start++) {
    const rest = camel(words.slice(start).join("_"));
    const base = isData ? `get${rest[0].toUpperCase()}${rest.slice(1)}` : rest;
    for (const module of modules) {
      const file = join(pulumi, module, `${base}.d.ts`);
      if (!existsSync(file)) continue;
      const interfaces = readInterfaces(readFileSync(file, "utf8"));
      const pick = (suffix) => interfaces.find(([name]) => name.endsWith(suffix) && !name.includes("Output"))?.[1] ?? "";
      // A data source without arguments has results only; a resource's attributes are its state.
      found.push({ file, arguments: readFields(pick("Args")), results: readFields(pick(isData ? "Result" : "State")) });
    }
  }
  return found;
}

// The share of names in common. region and tags are everyone's and tell nothing.
function similarity(written, fields) {
  const common = new Set(["id", "region", "tags", "tags_all", "timeouts"]);
  const ours = written.filter((name) => !common.has(name));
  const theirs = Object.keys(fields).filter((name) => !common.has(name));
  const both = ours.filter((name) => lookUp(fields, name)).length;
  const all = ours.length + theirs.length - both;
  return all === 0 ? 0.6 : both / all;
}

// Pulumi writes the names of lists in the plural.
function lookUp(fields, name) {
  const own = camel(name);
  return [own, `${own}s`, `${own}es`, own.replace(/y$/, "ies")].map((each) => fields[each]).find(Boolean);
}

function camel(name) {
  return name.replace(/_([a-z0-9])/g, (_, letter) => letter.toUpperCase());
}

function readInterfaces(text) {
  return [...text.matchAll(/^ *(?:export )?interface (\w+) \{\n(.*?)^ *\}$/gms)].map(([, name, body]) => [name, body]);
}

function readInputs(text) {
  const found = {};
  for (const [, namespace, body] of text.matchAll(/^export declare namespace (\w+) \{\n(.*?)^\}/gms)) {
    for (const [, name, fields] of body.matchAll(/^    interface (\w+) \{\n(.*?)^    \}/gms)) found[`${namespace}.${name}`] = fields;
  }
  return found;
}

// {name: {deprecated: message or undefined, inner: the fields of its own type}}
function readFields(body) {
  const fields = {};
  for (const [, comment, name, type] of body.matchAll(/(\/\*\*(?:(?!\*\/).)*\*\/\s+)?(?:readonly )?(\w+)\??: (.*?);$/gms)) {
    const deprecated = /@deprecated ([^\n]*)/.exec(comment ?? "")?.[1];
    const inner = /inputs\.(\w+\.\w+)/.exec(type)?.[1];
    fields[name] = { deprecated, get inner() { return inner && readFields(inputs[inner] ?? ""); } };
  }
  return fields;
}
