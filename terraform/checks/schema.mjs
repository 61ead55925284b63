// usage: node schema.mjs BINDINGS PREFIX TYPE… >schema.json
// The schema of a terraform provider, as its generated TypeScript bindings carry it: the npm packages
// @cdktn/provider-aws and @cdktn/provider-random, unpacked in the folder BINDINGS. TYPE is
// resource.aws_vpc or data.aws_region; one that the provider does not have is left out, so that
// terraform itself refuses it. Stands on the generator's own notes in lib/NAME/index.js, such as
//   // node_pools - computed: false, optional: true, required: false
// and in index.d.ts, where "NAME block" tells a block from an attribute.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const [bindings, prefix, ...types] = process.argv.slice(2);
const schema = { provider: readProvider(), resources: {}, data_sources: {} };
for (const type of types) {
  const [kind, name] = type.split(".");
  const folder = (kind === "data" ? "data-" + name : name.slice(prefix.length + 1)).replaceAll("_", "-");
  if (!existsSync(join(bindings, "lib", folder))) continue;
  schema[kind === "data" ? "data_sources" : "resources"][name] = readType(folder);
}
console.log(JSON.stringify(schema, null, 1));

function readType(folder) {
  const code = readClasses(readFileSync(join(bindings, "lib", folder, "index.js"), "utf8"));
  const blocks = readBlockNames(readFileSync(join(bindings, "lib", folder, "index.d.ts"), "utf8"));
  const [root] = [...code.values()].filter((each) => /^Terraform(Resource|DataSource)$/.test(each.base));
  return blockOf(root, `${root.name}Config`);

  function blockOf(owner, interfaceName) {
    const block = { attributes: {}, blocks: {} };
    for (const field of owner.fields) {
      if (blocks.get(interfaceName)?.has(field.name)) {
        block.blocks[field.name] = nestedBlockOf(field);
      } else {
        block.attributes[field.name] = attributeOf(field);
      }
    }
    return block;
  }

  function nestedBlockOf(field) {
    const { nesting, max, element, interfaceName } = nested(field);
    return { nesting, min: field.required && nesting !== "single" ? 1 : 0, max, block: blockOf(element, interfaceName) };
  }

  // Objects are given as nested attributes if they can be written, as a plain type if only read.
  function attributeOf({ name, body, ...flags }) {
    if (!/ new \w+\(this, /.test(body)) return { type: plainType(body), ...flags };
    const { nesting, element } = nested({ name, body });
    const attributes = Object.fromEntries(element.fields.map((each) => [each.name, attributeOf(each)]));
    if (flags.required || flags.optional) return { nested: { nesting, attributes }, ...flags };
    const object = ["object", Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, value.type]))];
    return { type: nesting === "single" ? object : [nesting, object], ...flags };
  }

  function nested({ name, body }) {
    const made = / new (\w+)\(this, "\w+"(?:, (true|false))?\)/.exec(body);
    if (!made) throw new Error(`${folder}: ${name}: cannot tell its nesting from:\n${body}`);
    const [, className, wrapsSet] = made;
    const interfaceName = className.replace(/(OutputReference|List|Map)$/, "");
    const element = code.get(`${interfaceName}OutputReference`);
    if (className.endsWith("List")) return { nesting: wrapsSet === "true" ? "set" : "list", max: 0, element, interfaceName };
    if (className.endsWith("Map")) return { nesting: "map", max: 0, element, interfaceName };
    // One object: the generator passes its index where the provider keeps a list or set of one.
    if (element.position === "false, 0") return { nesting: "list", max: 1, element, interfaceName };
    if (element.position === "true, 0") return { nesting: "set", max: 1, element, interfaceName };
    if (element.position === "false") return { nesting: "single", max: 0, element, interfaceName };
    throw new Error(`${folder}: ${name}: cannot tell its nesting from "${element.position}"`);
  }
}

// The classes of a file with their fields, by name.
function readClasses(text) {
  const classes = new Map();
  for (const part of text.split(/^(?=class )/m).slice(1)) {
    const [, name, base] = /^class (\w+) extends cdktn\.(\w+)/.exec(part);
    const position = /super\(terraformResource, terraformAttribute, (.*?)\);/.exec(part)?.[1];
    const fields = part.split(/^ +\/\/ (?=\w+ - computed: )/m).slice(1).map((field) => {
      const [, name, computed, optional, required] =
        /^(\w+) - computed: (\w+), optional: (\w+), required: (\w+)/.exec(field);
      const flags = { computed: computed === "true", optional: optional === "true", required: required === "true" };
      return { name, body: field.slice(0, field.search(/^ {4}\}/m)), ...flags };
    });
    classes.set(name, { name, base, position, fields });
  }
  return classes;
}

// For each interface the fields that are blocks.
function readBlockNames(declarations) {
  const names = new Map();
  for (const [, name, body] of declarations.matchAll(/^export interface (\w+) [^{]*\{\n(.*?)^\}/gms)) {
    names.set(name, new Set([...body.matchAll(/^ +\* (\w+) block$/gm)].map(([, block]) => block)));
  }
  return names;
}

function plainType(body) {
  const getters = [
    ["tolist(this.getNumberListAttribute(", ["set", "number"]],
    ["tolist(this.getListAttribute(", ["set", "string"]],
    ["this.getNumberListAttribute(", ["list", "number"]],
    ["this.getListAttribute(", ["list", "string"]],
    ["this.getStringMapAttribute(", ["map", "string"]],
    ["this.getNumberMapAttribute(", ["map", "number"]],
    ["this.getBooleanMapAttribute(", ["map", "bool"]],
    ["new cdktn.StringMap(", ["map", "string"]],
    ["new cdktn.NumberMap(", ["map", "number"]],
    ["new cdktn.BooleanMap(", ["map", "bool"]],
    ["this.getStringAttribute(", "string"],
    ["this.getNumberAttribute(", "number"],
    ["this.getBooleanAttribute(", "bool"],
    ["this.interpolationForAttribute(", "dynamic"],
  ];
  const getter = getters.find(([call]) => body.includes(call));
  if (!getter) throw new Error(`cannot tell the type of an attribute from:\n${body}`);
  return getter[1];
}

// The provider's own configuration has no getters; its declarations tell the types.
function readProvider() {
  const text = readFileSync(join(bindings, "lib", "provider", "index.d.ts"), "utf8");
  const interfaces = new Map();
  for (const [, name, body] of text.matchAll(/^export interface (\w+) [^{]*\{\n(.*?)^\}/gms)) interfaces.set(name, body);
  const [root] = [...interfaces.keys()].filter((name) => name.endsWith("ProviderConfig"));
  return root ? blockOf(root) : { attributes: {}, blocks: {} };

  function blockOf(interfaceName) {
    const block = { attributes: {}, blocks: {} };
    const field = /#(\w+) \w+#\w+\}\n(?:(?!\*\/).)*?\*\/\n +readonly \w+(\??): (.*?);\n(?= {4}\/\*\*|$)/gms;
    for (const [, name, optional, type] of interfaces.get(interfaceName).matchAll(field)) {
      if (name === "alias") continue; // terraform's own
      const flags = { required: optional === "", optional: optional === "?", computed: false };
      const inner = [...interfaces.keys()].find((each) => type.replace(/[[\]|].*/s, "").trim() === each);
      if (inner) block.blocks[name] = { nesting: "list", min: 0, max: 0, block: blockOf(inner) };
      else block.attributes[name] = { type: typeOf(type), ...flags };
    }
    return block;
  }

  function typeOf(type) {
    if (type.startsWith("{")) return ["map", "string"];
    const scalar = { string: "string", number: "number", boolean: "bool" }[/^\w+/.exec(type)[0]];
    return type.includes("[]") ? ["set", scalar] : scalar;
  }
}
