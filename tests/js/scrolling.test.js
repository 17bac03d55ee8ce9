import assert from "node:assert/strict";
import { test } from "node:test";

import { Scrolling } from "#chat/scrolling.js";

/** A thread that stops at its end as a browser's does, and tells of sizes and scrolling when it is asked to. */
function reading() {
  const listeners = /** @type {Record<string, () => void>} */ ({});
  let [top, height, frame] = [0, 600, 500];
  let measured = () => {};
  const thread = {
    get scrollHeight() {
      return height;
    },
    get clientHeight() {
      return frame;
    },
    get scrollTop() {
      return Math.min(top, height - frame);
    },
    set scrollTop(wanted) {
      top = Math.min(wanted, height - frame);
    },
    addEventListener: (/** @type {string} */ type, /** @type {() => void} */ heard) => (listeners[type] = heard),
  };
  const jump = { hidden: true, addEventListener() {} };
  const column = { addEventListener() {} };
  Object.assign(globalThis, {
    ResizeObserver: class {
      /** @param {() => void} heard */
      constructor(heard) {
        measured = heard;
      }
      observe() {}
    },
  });
  const element = (/** @type {unknown} */ fake) => /** @type {HTMLElement} */ (fake);
  const scrolling = new Scrolling(element(thread), element(column), element(jump));
  return {
    scrolling,
    jump,
    scrolled: () => listeners.scroll?.(),
    measured: () => measured(),
    grow: (/** @type {number} */ pixels) => (height += pixels),
    setFrame: (/** @type {number} */ pixels) => (frame = pixels),
    scrollTo: (/** @type {number} */ wanted) => (thread.scrollTop = wanted),
    distance: () => height - frame - thread.scrollTop,
  };
}

test("who is at the end stays there when a banner above comes and goes, and the answer goes on", () => {
  const page = reading();
  page.scrolling.toEnd();
  page.setFrame(470);
  page.measured();
  page.scrolled();
  assert.equal(page.distance(), 0);

  // The frame is taller again, and the browser tells of the shorter way before it tells of the size.
  page.setFrame(500);
  page.scrolled();
  page.grow(400);
  page.measured();
  assert.deepEqual([page.distance(), page.jump.hidden], [0, true]);

  // Told of the size at once, it stays even if the answer has grown before the browser says anything.
  page.setFrame(470);
  page.measured();
  page.setFrame(500);
  page.scrolling.keep();
  page.grow(400);
  page.scrolled();
  page.measured();
  assert.deepEqual([page.distance(), page.jump.hidden], [0, true]);
});

test("who scrolls up is left there, and is led back by the end", () => {
  const page = reading();
  page.grow(1000);
  page.scrolling.toEnd();
  page.scrollTo(300);
  page.scrolled();
  page.grow(100);
  page.measured();
  assert.deepEqual([page.distance(), page.jump.hidden], [900, false]);

  page.scrollTo(1200);
  page.scrolled();
  page.grow(100);
  page.measured();
  assert.deepEqual([page.distance(), page.jump.hidden], [0, true]);
});
