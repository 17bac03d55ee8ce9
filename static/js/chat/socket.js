/**
 * News from the server over one WebSocket: the balance, and what happens in other tabs and on other devices.
 *
 * @import { Notice } from "#lib/shapes.js"
 */
import { backoffDelay } from "#lib/backoff.js";
import { waitForNetwork } from "#chat/network.js";

const PING_MS = 25_000;
const PONG_MS = 10_000;
/** How the server closes a socket of somebody who is signed out: trying again changes nothing. */
const NOT_SIGNED_IN = 4401;
/** A connection that lasted so long was a good one: the next failure starts counting anew. */
const GOOD_MS = 10_000;

/**
 * Keeps a socket open for as long as the page is.
 * @param {object} handlers
 * @param {(notice: Notice) => void} handlers.onNotice
 * @param {() => void} handlers.onReturn after a gap, in which news may have been missed
 * @param {() => void} handlers.onSignedOut
 */
export async function listen({ onNotice, onReturn, onSignedOut }) {
  let attempt = 0;
  for (let first = true; ; first = false) {
    const begun = performance.now();
    const code = await connection(onNotice, first ? () => {} : onReturn);
    if (code === NOT_SIGNED_IN) return onSignedOut();
    attempt = performance.now() - begun > GOOD_MS ? 0 : attempt + 1;
    await waitForNetwork(backoffDelay(attempt));
  }
}

/**
 * One connection, until it closes.
 * @param {(notice: Notice) => void} onNotice
 * @param {() => void} onOpen
 * @returns {Promise<number>} the code it was closed with
 */
function connection(onNotice, onOpen) {
  return new Promise((resolve) => {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/ws/`);
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const ended = (/** @type {number} */ code) => {
      clearTimeout(timer);
      removeEventListener("offline", lost);
      resolve(code);
    };
    // A dead connection may take minutes to close by itself: nobody waits for that.
    const lost = () => {
      socket.onclose = null;
      socket.close();
      ended(1006);
    };
    const ping = () => {
      socket.send('{"type":"ping"}');
      timer = setTimeout(lost, PONG_MS);
    };
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(ping, PING_MS);
    };
    addEventListener("offline", lost);
    socket.onopen = () => {
      heard();
      onOpen();
    };
    socket.onmessage = ({ data }) => {
      heard();
      const notice = /** @type {Notice} */ (JSON.parse(data));
      if (notice.type !== "pong") onNotice(notice);
    };
    socket.onclose = ({ code }) => ended(code);
  });
}
