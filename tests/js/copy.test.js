import assert from "node:assert/strict";
import { mock, test } from "node:test";

class Field {
  value = "chatapp_key";
  selected = false;
  select() {
    this.selected = true;
  }
}

const field = new Field();
const list = { innerText: "code1\ncode2" };
/** @type {unknown[]} */
const selected = [];
/** @type {(text: string) => Promise<void>} */
let writeText = async () => {};

/** @param {string} copy */
function button(copy) {
  return Object.assign(new EventTarget(), { dataset: { copy }, textContent: "Copy", setAttribute: () => {} });
}
const buttons = { field: button("field"), list: button("list"), stray: button("nothing") };

Object.assign(globalThis, {
  HTMLInputElement: Field,
  HTMLTextAreaElement: class {},
  document: {
    querySelectorAll: () => Object.values(buttons),
    getElementById: (/** @type {string} */ id) => ({ field, list })[id] ?? null,
  },
  getSelection: () => ({ selectAllChildren: (/** @type {unknown} */ element) => selected.push(element) }),
});
Object.defineProperty(globalThis, "navigator", {
  value: { clipboard: { writeText: (/** @type {string} */ text) => writeText(text) } },
});
mock.timers.enable({ apis: ["setTimeout"] });
await import("#copy.js");

/** @param {EventTarget} button */
async function press(button) {
  button.dispatchEvent(new Event("click"));
  await new Promise(setImmediate);
}

test("a field and a list are copied as they are seen, and stay selected", async () => {
  /** @type {string[]} */
  const copied = [];
  writeText = async (text) => void copied.push(text);
  await press(buttons.field);
  await press(buttons.list);
  assert.deepEqual(copied, ["chatapp_key", "code1\ncode2"]);
  assert.ok(field.selected);
  assert.deepEqual(selected, [list]);
  assert.equal(buttons.list.textContent, "Copied");
  mock.timers.tick(2_000);
  assert.equal(buttons.list.textContent, "Copy");
});

test("where the clipboard is closed, what is selected can be copied by hand", async () => {
  writeText = () => Promise.reject(new Error("not allowed"));
  await press(buttons.field);
  assert.equal(buttons.field.textContent, "Press Ctrl+C");
});
