// Makes the buttons of passkeys work as soon as allauth's scripts do, and says in words what those only tell the console.

/** @type {Record<string, string>} */
const WORDS = {
  NotAllowedError: "The passkey was not used: it was cancelled, or took too long.",
  InvalidStateError: "This device already has a passkey for your account.",
  SecurityError: "Passkeys need this site to be opened by its real address, over https.",
};

// allauth listens to them from this event on; a click before that would send the form without a passkey, as would one
// where its scripts could not be loaded.
document.addEventListener("DOMContentLoaded", () => {
  if (!("allauth" in window)) return;
  for (const button of document.querySelectorAll("button[data-passkey]")) button.removeAttribute("disabled");
});

document.addEventListener("allauth.error", (event) => {
  const { exception } = /** @type {CustomEvent<{exception: Error}>} */ (event).detail;
  const words = WORDS[exception.name];
  if (words) event.preventDefault();
  show(words ?? "The passkey could not be used in this browser.");
});

/** @param {string} words */
function show(words) {
  const before = document.querySelector("[data-passkey-fault]");
  const notice = document.createElement("div");
  notice.className = "notice bad";
  notice.setAttribute("role", "alert");
  notice.dataset.passkeyFault = "";
  notice.textContent = words;
  if (before) {
    before.replaceWith(notice);
  } else {
    document.querySelector("[data-passkey]")?.before(notice);
  }
}
