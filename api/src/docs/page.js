"use strict";
// Reads openapi.json and shows every operation. Everything is put into the page as text, never as markup.

const METHODS = ["get", "post", "put", "patch", "delete"];
const DEEPEST = 6;
let spec;

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) element.append(child);
  }
  return element;
}

// Follows references inside the document.
function resolve(thing) {
  let found = thing;
  for (let step = 0; found && found.$ref && step < DEEPEST; step += 1) {
    found = found.$ref.replace(/^#\//, "").split("/").reduce((at, name) => (at ? at[name] : undefined), spec);
  }
  return found || {};
}

// A schema in a few words.
function inWords(given) {
  const schema = resolve(given);
  const either = schema.oneOf || schema.anyOf;
  if (either) return either.map(inWords).join(" or ");
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" | ");
  const types = [].concat(schema.type || []);
  const words = types.map((type) => (type === "array" ? "list of " + inWords(schema.items || {}) : type));
  const limits = [];
  if (schema.format) limits.push(schema.format);
  for (const [name, sign] of [["minimum", "≥"], ["exclusiveMinimum", ">"], ["maximum", "≤"]]) {
    if (schema[name] !== undefined) limits.push(sign + " " + schema[name]);
  }
  if (schema.maxLength !== undefined) limits.push("at most " + schema.maxLength + " characters");
  return (words.join(" or ") || "anything") + (limits.length ? " (" + limits.join(", ") + ")" : "");
}

// A value such as the schema describes.
function example(given, depth = 0) {
  const schema = resolve(given);
  if (schema.example !== undefined) return schema.example;
  if (Array.isArray(schema.examples) && schema.examples.length) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  const either = schema.oneOf || schema.anyOf;
  if (either) return example(either.find((one) => resolve(one).type !== "null") || {}, depth + 1);
  if (schema.allOf) return Object.assign({}, ...schema.allOf.map((part) => example(part, depth + 1)));
  const type = [].concat(schema.type || [])[0];
  if (type === "object" || schema.properties) {
    if (depth > DEEPEST) return {};
    return Object.fromEntries(Object.entries(schema.properties || {}).map(([name, of]) => [name, example(of, depth + 1)]));
  }
  if (type === "array") return depth > DEEPEST ? [] : [example(schema.items || {}, depth + 1)];
  if (type === "integer" || type === "number") return schema.minimum || 0;
  if (type === "boolean") return true;
  if (type === "null") return null;
  if (schema.format === "uuid") return "00000000-0000-0000-0000-000000000000";
  if (schema.format === "date") return "2026-12-31";
  if (schema.format === "date-time") return "2026-12-31T12:00:00Z";
  return "";
}

function table(heads, rows) {
  return make("table", {},
    make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map((cell) => make("td", {}, cell))))));
}

function named(name, required) {
  return make("span", {}, make("code", {}, name), required ? make("span", { class: "must" }, " required") : null);
}

function fieldsOf(given) {
  const schema = resolve(given);
  const required = new Set(schema.required || []);
  return Object.entries(schema.properties || {}).map(([name, of]) =>
    [named(name, required.has(name)), inWords(of), of.description || resolve(of).description || ""]);
}

function jsonOf(content) {
  return content && content["application/json"] ? content["application/json"].schema : undefined;
}

function answers(operation) {
  const codes = Object.entries(operation.responses || {}).sort(([one], [other]) => one.localeCompare(other));
  return codes.map(([status, given]) => {
    const response = resolve(given);
    const schema = jsonOf(response.content);
    const good = status.startsWith("2");
    return make("details", { open: good && Boolean(schema) },
      make("summary", {}, make("strong", { class: good ? "good" : "bad" }, status), " ", response.description || ""),
      schema ? make("pre", {}, JSON.stringify(example(schema), null, 2)) : null);
  });
}

function field(parameter, id) {
  const schema = resolve(parameter.schema || {});
  if (!schema.enum) return make("input", { id, autocomplete: "off", spellcheck: "false", placeholder: inWords(schema) });
  return make("select", { id }, make("option", { value: "" }, ""), schema.enum.map((word) => make("option", { value: word }, String(word))));
}

// A path of our own origin, whatever stands in the document or is typed in.
function target(path, values) {
  const query = new URLSearchParams();
  let filled = path;
  for (const { parameter, value } of values) {
    if (parameter.in === "path") filled = filled.replace("{" + parameter.name + "}", encodeURIComponent(value));
    else if (parameter.in === "query" && value !== "") query.append(parameter.name, value);
  }
  const search = query.toString();
  return filled.replace(/^\//, "") + (search ? "?" + search : "");
}

function tryForm(path, method, operation, parameters, anchor) {
  const inputs = parameters.filter((one) => one.in === "path" || one.in === "query" || one.in === "header")
    .map((parameter, index) => ({ parameter, input: field(parameter, anchor + "-" + index) }));
  const schema = operation.requestBody ? jsonOf(resolve(operation.requestBody).content) : undefined;
  const body = schema ? make("textarea", { "aria-label": "Body", spellcheck: "false" }) : null;
  if (body) body.value = JSON.stringify(example(schema), null, 2);
  const result = make("div", { role: "status" });
  const send = make("button", { type: "button" }, "Send");
  send.addEventListener("click", async () => {
    result.replaceChildren("…");
    const headers = {};
    const token = document.getElementById("token").value.trim();
    if (token) headers.Authorization = "Bearer " + token;
    if (body) headers["Content-Type"] = "application/json";
    const values = inputs.map(({ parameter, input }) => ({ parameter, value: input.value }));
    for (const { parameter, value } of values) {
      if (parameter.in === "header" && value !== "") headers[parameter.name] = value;
    }
    const started = performance.now();
    try {
      const url = target(path, values);
      const response = await fetch(url, { method: method.toUpperCase(), headers, body: body ? body.value : undefined });
      const text = await response.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* no JSON: as it came */ }
      const took = Math.round(performance.now() - started) + " ms";
      result.replaceChildren(
        make("p", {}, make("strong", { class: response.ok ? "good" : "bad" }, String(response.status)), " ", make("code", {}, "/" + url), " ", took),
        make("pre", {}, shown || "(no body)"));
    } catch (error) {
      result.replaceChildren(make("p", { class: "bad" }, "No answer: " + error.message));
    }
  });
  return make("div", { class: "try" }, make("h3", {}, "Try it"),
    inputs.map(({ parameter, input }) =>
      make("div", { class: "row" }, make("label", { for: input.id }, parameter.name + (parameter.required ? " *" : "")), input)),
    body, make("div", { class: "row" }, send), result);
}

function show(path, method, operation, shared, anchor) {
  const parameters = [...shared, ...(operation.parameters || [])].map(resolve);
  const schema = operation.requestBody ? jsonOf(resolve(operation.requestBody).content) : undefined;
  const inside = make("div", { class: "inside" },
    operation.description ? make("p", {}, operation.description) : null,
    operation.security && operation.security.length ? make("p", { class: "summary" }, "Needs a bearer token.") : null,
    parameters.length ? [make("h3", {}, "Parameters"), table(["name", "where", "what", ""], parameters.map((one) =>
      [named(one.name, one.required), one.in, inWords(one.schema || {}), one.description || ""]))] : null,
    schema ? [make("h3", {}, "Body"), table(["field", "what", ""], fieldsOf(schema))] : null,
    make("h3", {}, "Answers"), answers(operation),
    tryForm(path, method, operation, parameters, anchor));
  return make("details", { class: "operation", id: anchor },
    make("summary", {}, make("span", { class: "method " + method }, method), make("span", { class: "path" }, path),
      make("span", { class: "summary" }, operation.summary || "")), inside);
}

function build() {
  document.getElementById("title").replaceChildren(spec.info.title, make("small", {}, spec.info.version || ""));
  document.getElementById("about").textContent = spec.info.description || "";
  const groups = new Map();
  for (const [path, item] of Object.entries(spec.paths || {})) {
    for (const method of METHODS.filter((method) => item[method])) {
      const operation = item[method];
      const tag = (operation.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push({ path, method, operation, shared: item.parameters || [], anchor: (method + path).replace(/[^a-zA-Z0-9]+/g, "-") });
    }
  }
  const main = document.getElementById("operations");
  const nav = document.getElementById("contents");
  main.replaceChildren();
  nav.replaceChildren();
  for (const [tag, entries] of [...groups].sort(([one], [other]) => one.localeCompare(other))) {
    main.append(make("h2", {}, tag));
    nav.append(make("h2", {}, tag));
    for (const { path, method, operation, shared, anchor } of entries) {
      main.append(show(path, method, operation, shared, anchor));
      nav.append(make("a", { href: "#" + anchor }, make("span", { class: "method " + method }, method + " "), path));
    }
  }
  openNamed();
}

// Opens the operation that the address names.
function openNamed() {
  const element = location.hash ? document.getElementById(location.hash.slice(1)) : null;
  if (element && element.tagName === "DETAILS") {
    element.open = true;
    element.scrollIntoView();
  }
}

function find() {
  const words = document.getElementById("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const element of document.querySelectorAll("details.operation")) {
    const text = element.querySelector("summary").textContent.toLowerCase();
    element.hidden = !words.every((word) => text.includes(word));
  }
}

async function start() {
  try {
    const response = await fetch("openapi.json");
    if (!response.ok) throw new Error("status " + response.status);
    spec = await response.json();
    build();
  } catch (error) {
    document.getElementById("state").textContent = "openapi.json cannot be read: " + error.message;
  }
}

window.addEventListener("hashchange", openNamed);
document.getElementById("find").addEventListener("input", find);
start();
