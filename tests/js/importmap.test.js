import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const TREE = new URL("../../", import.meta.url);
const MODULES = new URL("static/js/", TREE);

const files = readdirSync(MODULES, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".js"));
const template = readFileSync(new URL("templates/parts/importmap.html", TREE), "utf8");
const map = new Map(
  [...template.matchAll(/"([^"]+)": "\{% static '([^']+)' %\}"/g)].map(([, name = "", file = ""]) => [name, file]),
);

/** @param {string} file */
function importsOf(file) {
  const source = readFileSync(new URL(file, MODULES), "utf8");
  const found = source.matchAll(
    /^import\s[^;]*?"([^"]+)";|^export\s[^;]*?\sfrom\s"([^"]+)";|\bimport\("([^"]+)"\)|import\.meta\.resolve\("([^"]+)"\)/gm,
  );
  // Types live in comments; they are never loaded.
  const code = source.replace(/\/\*\*[^]*?\*\//g, "");
  return [...found].map((match) => match.slice(1).find(Boolean) ?? "").filter((name) => code.includes(`"${name}"`));
}

test("every name that a module imports is in the import map", () => {
  for (const file of files) {
    for (const name of importsOf(file)) assert.ok(map.has(name), `${file} imports ${name}`);
  }
});

test("our own names lead to the files of the same name, all of which exist", () => {
  for (const [name, file] of map) {
    if (!name.startsWith("#")) continue;
    assert.equal(file, `js/${name.slice(1)}`);
    assert.ok(files.includes(name.slice(1)), `${name} is no module`);
  }
});

test("no module imports by path: addresses have hashes in production", () => {
  for (const file of files) {
    for (const name of importsOf(file)) assert.doesNotMatch(name, /^[./]/, `${file} imports ${name}`);
  }
});

test("the map names nothing that no module imports", () => {
  const imported = new Set(files.flatMap(importsOf));
  assert.deepEqual(
    [...map.keys()].filter((name) => !imported.has(name)),
    [],
  );
});

test("what is pure does not reach into the page", () => {
  for (const file of files.filter((name) => name.startsWith("lib/"))) {
    assert.deepEqual(
      importsOf(file).filter((name) => name.startsWith("#chat/")),
      [],
      file,
    );
    const code = readFileSync(new URL(file, MODULES), "utf8");
    assert.doesNotMatch(code, /\b(?:document|window|localStorage|sessionStorage)\b\./, file);
  }
});

test("HTML reaches the page only through the sanitizer", () => {
  for (const file of files.filter((name) => name !== "chat/sanitize.js")) {
    const code = readFileSync(new URL(file, MODULES), "utf8");
    assert.doesNotMatch(
      code,
      /\b(?:innerHTML|outerHTML|insertAdjacentHTML|setHTMLUnsafe|parseFromString|document\.write)\b/,
      file,
    );
  }
});
