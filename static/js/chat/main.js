/**
 * The chat page, put together: who is told about what.
 *
 * @import { Bootstrap } from "#lib/shapes.js"
 */
import { Announcer } from "#chat/announcer.js";
import { api } from "#chat/api.js";
import { Asking } from "#chat/asking.js";
import { ChatMenu } from "#chat/chat-menu.js";
import { Chats } from "#chat/chats.js";
import { Composer } from "#chat/composer.js";
import { copyText } from "#chat/copy-text.js";
import { Drawer } from "#chat/drawer.js";
import { Elsewhere } from "#chat/elsewhere.js";
import { ModelPicker } from "#chat/model-picker.js";
import { watchOffline } from "#chat/network.js";
import { part } from "#chat/pieces.js";
import { Scrolling } from "#chat/scrolling.js";
import { listenToKeys } from "#chat/shortcuts.js";
import { Shown } from "#chat/shown.js";
import { Sidebar } from "#chat/sidebar.js";
import { listen } from "#chat/socket.js";
import { Stage } from "#chat/stage.js";
import { Thread } from "#chat/thread.js";
import { Toast } from "#chat/toast.js";
import { Turns } from "#chat/turns.js";
import { Wallet } from "#chat/wallet.js";

const boot = /** @type {Bootstrap} */ (JSON.parse(document.getElementById("bootstrap")?.textContent ?? ""));
const stageRoot = part(document, "stage");
const addressOf = (/** @type {string | null} */ id) => (id === null ? boot.urls.chat : `${boot.urls.chat}${id}/`);

const remedies = {
  billing: boot.urls.billing,
  get login() {
    return `${boot.urls.login}?next=${encodeURIComponent(location.pathname)}`;
  },
  newChat: () => go(null),
  reconnect: () => void toast.unless("The conversation is not up to date.", () => shown.refresh()),
  retry: () => void shown.open(idOf(location.pathname)),
};

const toast = new Toast(part(document, "toast"));
const announcer = new Announcer(part(document, "announcer"));
const wallet = new Wallet(part(stageRoot, "balance"), boot.balance);
const turns = new Turns();
const chats = new Chats(boot.conversations);
const scrolling = new Scrolling(part(document, "thread"), part(document, "column"), part(document, "jump"));
const thread = new Thread(part(document, "messages"), {
  copy: (text, button) => void copyText(text, button),
  edit: (message, text) => asking.edit(message, text),
  retry: (answer) => asking.retry(answer),
  showBranch: (message) => {
    if (message && !shown.live) void toast.unless("The other version was not shown.", () => shown.showBranch(message));
  },
  announce: (markdown) => announcer.announce(markdown),
  remedies,
});
const shown = new Shown(turns, thread, scrolling);
const composer = new Composer(stageRoot, new ModelPicker(stageRoot, boot.models), remedies);
const asking = new Asking(
  { turns, shown, chats, composer, wallet, scrolling, toast, moved, announce: (words) => announcer.say(words) },
  boot.models,
);
const menu = new ChatMenu(
  chats,
  toast,
  (conversation) => shown.id === conversation.id && shown.know(conversation),
  (id) => shown.id === id && go(null),
);
const sidebarRoot = part(document, "sidebar");
const sidebar = new Sidebar(sidebarRoot, chats, toast, openMenu, addressOf);
const drawer = new Drawer(sidebarRoot, stageRoot);
new Stage(stageRoot, shown, remedies, boot.user.name);

/** @param {string} path */
function idOf(path) {
  return path.slice(boot.urls.chat.length).replace(/\/$/, "") || null;
}

/** @param {string | null} id */
function go(id) {
  if (addressOf(id) !== location.pathname) history.pushState(null, "", addressOf(id));
  void shown.open(id);
  composer.focus();
}

/**
 * A new conversation has got its id: the address follows, the page stays.
 * @param {string} id
 */
function moved(id) {
  history.pushState(null, "", addressOf(id));
  composer.adopt(id);
  const now = new Date().toISOString();
  const model = composer.picker.model?.id ?? null;
  const blank = { title: "", instructions: "", pinned: false, archived: false, running_turn: null };
  shown.know({ ...blank, id, model, created_at: now, updated_at: now });
}

/**
 * @param {string} id
 * @param {HTMLElement} button
 */
function openMenu(id, button) {
  const conversation = chats.get(id) ?? (shown.id === id ? shown.conversation : null);
  if (conversation) menu.open(conversation, button);
}

function updateComposer() {
  const { complete, conversation, id, live, messages } = shown;
  const instructions = [boot.user.instructions, conversation?.instructions ?? ""];
  const { available, held } = wallet;
  composer.update({ conversation: id, messages, complete, instructions, live, available, held });
  document.body.classList.toggle("answering", live !== null);
}

let shownId = /** @type {string | null | undefined} */ (undefined);
shown.addEventListener("change", () => {
  updateComposer();
  if (shown.id === shownId) return;
  shownId = shown.id;
  sidebar.mark(shown.id);
  composer.picker.use(shown.conversation?.model ?? null);
});
for (const source of [turns, wallet]) source.addEventListener("change", updateComposer);

composer.addEventListener("send", () => asking.send());
composer.addEventListener("stop", () => void asking.stop());
composer.picker.addEventListener("change", () => {
  composer.focus();
  const { id } = shown;
  const model = composer.picker.model?.id;
  if (!id || !model) return;
  void toast.unless("The choice of model was not kept.", async () => shown.know(await api.change(id, { model })));
});

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a.chat-link, a[data-go]") : null;
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!(link instanceof HTMLAnchorElement) || !plain) return;
  event.preventDefault();
  go(idOf(link.pathname));
});
addEventListener("popstate", () => {
  const id = idOf(location.pathname);
  // A jump within the page, such as to its content, is no change of conversation.
  if (id !== shown.id) void shown.open(id);
});
const titleMenu = part(document, "title-more");
titleMenu.addEventListener("click", () => shown.id && openMenu(shown.id, titleMenu));
part(document, "welcome").addEventListener("click", (event) => {
  const idea = event.target instanceof Element ? event.target.closest("[data-idea]") : null;
  if (!(idea instanceof HTMLElement)) return;
  composer.write(idea.dataset.idea ?? "");
  composer.focus();
});
listenToKeys({
  search: () => {
    drawer.open();
    sidebar.focusSearch();
  },
  newChat: () => go(null),
  stop: () => void asking.stop(),
});
watchOffline(part(document, "offline"), boot.patience_seconds, () => scrolling.keep());

shown.begin(boot.conversation, boot.messages);
composer.focus();

const elsewhere = new Elsewhere({ chats, shown, toast, turns, wallet });
void listen({
  onNotice: (notice) => elsewhere.hear(notice),
  onReturn: () => void elsewhere.catchUp(),
  onSignedOut: () => toast.say("You are signed out. Log in again to go on."),
});
