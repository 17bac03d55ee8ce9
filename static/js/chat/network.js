/** Whether the network is there, and waiting for it. */
import { offlineWords } from "#lib/troubles.js";

/**
 * Resolves after `ms`, or as soon as the network or the person is back: then trying again is worth it at once.
 * While the system knows that it is offline, only that.
 * @param {number} ms
 * @returns {Promise<void>}
 */
export function waitForNetwork(ms) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      if (navigator.onLine) done();
    }, ms);
    const visible = () => {
      if (document.visibilityState === "visible" && navigator.onLine) done();
    };
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      document.removeEventListener("visibilitychange", visible);
      resolve();
    };
    addEventListener("online", done);
    document.addEventListener("visibilitychange", visible);
  });
}

let network = new AbortController();
addEventListener("offline", () => {
  network.abort();
  network = new AbortController();
});

/**
 * For one connection, which is given up when the network goes: by itself it may take long to notice, also after the
 * network is back.
 * @returns {AbortSignal}
 */
export function whileOnline() {
  return network.signal;
}

/**
 * Keeps the banner that says so.
 * @param {HTMLElement} banner
 * @param {number} patienceSeconds how long the server goes on with an answer that nobody reads
 * @param {() => void} resized the page around the banner has another size
 */
export function watchOffline(banner, patienceSeconds, resized) {
  const show = () => {
    banner.hidden = navigator.onLine;
    banner.textContent = navigator.onLine ? "" : offlineWords(patienceSeconds);
    resized();
  };
  addEventListener("online", show);
  addEventListener("offline", show);
  show();
}
