// The built-in inbox: one page over the same API any other client uses.
//
// `hub.js` talks to the hub, `draw.js` knows how to put things on the page, and this file is the
// page: what is shown, and what happens when somebody does something.

import {
  $, avatar, clockOf, dateOf, dayName, el, failed, notify, platformName, reconcile, say, shortTime,
  time, via,
} from "./draw.js";
import { Live, api, enter, leave, logOut, session } from "./hub.js";

/** What this hub can connect. */
const CONNECTABLE = ["facebook", "telegram"];
const VIEWS = ["enter", "inbox", "accounts", "telegram"];
const PAGE_ROWS = 50;
/** How soon after a stranger's first message their name is looked for. */
const NAME_AFTER_MS = 1_500;

/** What a message of ours is before the platform is known to have it. */
const WAITING = {
  queued: ["◷ Queued", "pending", ""],
  sending: ["◷ Sending", "pending", ""],
  delayed: ["◷ Queued", "pending", "The platform did not take it yet. It is tried again."],
  uncertain: ["? Uncertain", "uncertain", "The platform did not confirm it: it may have arrived."],
};

const state = {
  conversations: new Map(),
  isLoaded: false,
  hasMoreConversations: false,
  /** The id of the open conversation. */
  open: null,
  messages: new Map(),
  hasMoreMessages: false,
  drafts: new Map(),
  /** How often something was told live or sent, to notice that a list was read too early. */
  changes: 0,
};

/** Reads again when something changed meanwhile: the answer may be older than what is shown. */
async function readList(path, offset) {
  for (let tries = 1; ; tries += 1) {
    const before = state.changes;
    const page = await api(`${path}?limit=${PAGE_ROWS}&offset=${offset}`);
    if (before === state.changes || tries === 3) return page;
  }
}

// ---------------------------------------------------------------- conversations

async function loadConversations(offset = 0) {
  const page = await readList("/api/conversations", offset);
  if (offset === 0) state.conversations.clear();
  for (const it of page.conversations) state.conversations.set(it.id, it);
  state.hasMoreConversations = page.hasMore;
  state.isLoaded = true;
  drawConversations();
}

async function loadConversation(id) {
  const found = await api(`/api/conversations/${id}`).catch(() => null);
  if (found) keepConversation(found);
}

function keepConversation(conversation) {
  state.conversations.set(conversation.id, conversation);
  drawConversations();
}

function drawConversations() {
  const newest = (a, b) => (a.lastMessageAt < b.lastMessageAt ? 1 : -1);
  const items = [...state.conversations.values()].sort(newest);
  reconcile(
    $("conversations"),
    items.map((it) => ({ ...it, isOpen: it.id === state.open, today: new Date().toDateString() })),
    (it) => el("li", {}, el("a", { href: `/dashboard#${it.id}` })),
    (node, it) => fillConversation(node.firstChild, it),
  );
  $("no-conversations").hidden = items.length > 0 || !state.isLoaded;
  $("more-conversations").hidden = !state.hasMoreConversations;
  drawThreadHead();
}

function fillConversation(link, it) {
  link.classList.toggle("unread", it.hasUnread);
  link.ariaCurrent = it.isOpen ? "true" : null;
  link.replaceChildren(
    avatar(it.participantName, it.id),
    el("span", { className: "name" }, it.participantName),
    time(it.lastMessageAt, shortTime),
    el("span", { className: "via" }, via(it)),
  );
  if (it.unreadCount === 0) return;
  const spoken = el("span", { className: "away" }, " unread");
  link.append(el("span", { className: "badge" }, String(it.unreadCount), spoken));
}

async function loadUnread() {
  drawUnread((await api("/api/messages/unread/count")).total);
}

function drawUnread(total) {
  say("total", total > 0 ? String(total) : "");
  document.title = total > 0 ? `(${total}) Hub` : "Hub";
}

// ---------------------------------------------------------------- the open thread

async function openThread(id) {
  if (state.open) state.drafts.set(state.open, $("text").value);
  state.open = id;
  state.messages.clear();
  state.hasMoreMessages = false;
  $("messages").replaceChildren();
  $("inbox").classList.toggle("reading", id !== null);
  $("thread").hidden = id === null;
  $("no-thread").hidden = id !== null;
  say("composer-error");
  drawConversations();
  if (id === null) return;
  $("text").value = state.drafts.get(id) ?? "";
  fitText();
  // On a touch screen focusing the box would raise the keyboard over the messages.
  (matchMedia("(hover: hover)").matches ? $("text") : $("thread-name")).focus();
  if (!state.conversations.has(id)) await loadConversation(id);
  await loadMessages();
  await markRead();
}

function drawThreadHead() {
  const it = state.conversations.get(state.open);
  $("thread-name").textContent = it?.participantName ?? "…";
  $("thread-via").textContent = it ? via(it) : "";
  $("thread-avatar").replaceChildren(...(it ? [avatar(it.participantName, it.id)] : []));
}

async function loadMessages(offset = 0) {
  const id = state.open;
  if (id === null) return;
  const page = await readList(`/api/messages/${id}`, offset);
  if (state.open !== id) return;
  const waiting = sortedMessages().filter((it) => WAITING[it.status]);
  if (offset === 0) forgetFrom(page.messages.at(-1));
  for (const message of page.messages) state.messages.set(message.id, message);
  // What failed after its request was answered leaves the thread, and nothing else tells it.
  const lost = waiting.find((it) => !state.messages.has(it.id));
  if (lost) failed(new Error(`A message was not sent: “${lost.content}”`));
  // A fresh first page says nothing about what is before the pages loaded earlier.
  if (offset > 0 || state.messages.size === page.count) state.hasMoreMessages = page.hasMore;
  drawMessages(offset > 0);
}

/** Makes room for a fresh first page: a message may have been merged into another meanwhile. */
function forgetFrom(oldest) {
  for (const it of state.messages.values()) {
    if (!oldest || it.sentAt >= oldest.sentAt) state.messages.delete(it.id);
  }
}

function sortedMessages() {
  const key = (it) => `${it.sentAt} ${it.createdAt} ${it.id}`;
  return [...state.messages.values()].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

function drawMessages(isOlder = false) {
  const scroll = $("scroll");
  const below = scroll.scrollHeight - scroll.scrollTop;
  const wasAtEnd = below - scroll.clientHeight < 80 || $("messages").childElementCount === 0;
  const items = [];
  let day = "";
  for (const message of sortedMessages()) {
    const name = dayName(message.sentAt);
    if (name !== day) items.push({ id: `day ${name}`, day: name });
    day = name;
    items.push(message);
  }
  $("more-messages").hidden = !state.hasMoreMessages;
  const make = (it) => el("li", { className: it.day ? "day" : "message" }, it.day ?? "");
  reconcile($("messages"), items, make, (node, it) => it.day || fillMessage(node, it));
  if (isOlder) scroll.scrollTop = scroll.scrollHeight - below;
  else if (wasAtEnd) scroll.scrollTop = scroll.scrollHeight;
}

function fillMessage(node, it) {
  const bubble = el("div", { className: "bubble" });
  if (it.messageType !== "text") bubble.append(mediaOf(it));
  bubble.append(it.content);
  const meta = el("div", { className: "meta" }, time(it.sentAt, clockOf));
  if (it.isOutgoing) {
    const [text, look, why] = statusOf(it);
    meta.append(" · ", el("span", { className: "state", title: why }, text));
    node.className = `message out ${look}`;
  }
  const speaker = el("span", { className: "away" }, `${it.isOutgoing ? "You" : it.senderName}: `);
  node.replaceChildren(speaker, bubble, meta);
}

function mediaOf(it) {
  const label = `[${it.messageType}]${it.content ? "\n" : ""}`;
  if (!/^https?:/.test(it.mediaUrl ?? "")) return el("span", { className: "kind" }, label);
  return el("a", { href: it.mediaUrl, target: "_blank", rel: "noreferrer" }, label);
}

/** Where a message of ours is on its way: the words, the look, and more words. */
function statusOf(it) {
  if (WAITING[it.status]) return WAITING[it.status];
  if (it.isRead) return ["✓✓ Read", "read", ""];
  return it.deliveredAt ? ["✓✓ Delivered", "", ""] : ["✓ Sent", "", ""];
}

async function markRead() {
  const conversation = state.conversations.get(state.open);
  if (document.hidden || !conversation?.hasUnread) return;
  const { id } = conversation;
  await api(`/api/messages/conversation/${id}/read`, { method: "PATCH" });
  // The same arrives live; when we are offline this is all there is.
  const now = state.conversations.get(id) ?? conversation;
  keepConversation({ ...now, unreadCount: 0, hasUnread: false });
  await loadUnread();
}

// ---------------------------------------------------------------- sending

/** The last try that is not over. Trying it again under its key cannot send it twice. */
let attempt = null;

function keyFor(conversation, content) {
  if (attempt?.conversation !== conversation || attempt.content !== content) {
    // Not randomUUID: that is missing where the hub is reached over plain HTTP.
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const key = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    attempt = { conversation, content, key };
  }
  return attempt.key;
}

async function send() {
  const id = state.open;
  const content = $("text").value.trim();
  if (!content || $("send").disabled) return;
  const headers = { "Idempotency-Key": keyFor(id, content) };
  drawSending(true);
  say("composer-error");
  try {
    const call = { method: "POST", body: { content }, headers };
    sent(id, (await api(`/api/messages/${id}/send`, call)).message);
  } catch (problem) {
    // A message that failed is over; another try is another message.
    if (problem.details?.messageId) attempt = null;
    if (state.open !== id) return failed(problem);
    say("composer-error", problem.message);
    loadMessages().catch(() => {});
  } finally {
    drawSending(false);
  }
}

function sent(id, message) {
  attempt = null;
  state.changes += 1;
  state.drafts.delete(id);
  if (state.open !== id) return;
  $("text").value = "";
  fitText();
  state.messages.set(message.id, message);
  drawMessages();
  $("scroll").scrollTop = $("scroll").scrollHeight;
}

function drawSending(isBusy) {
  $("send").disabled = $("text").readOnly = isBusy;
  $("send").textContent = isBusy ? "Sending…" : "Send";
}

function fitText() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight + 2}px`;
}

// ---------------------------------------------------------------- live

const live = new Live(
  (event, data) => {
    state.changes += 1;
    onEvent[event]?.(data);
  },
  (failures) => {
    drawLive(false);
    // Live or not, the page is not to fall far behind.
    if (failures > 0 && !document.hidden) catchUp().catch(() => {});
  },
);

async function catchUp() {
  await Promise.all([loadConversations(), loadUnread(), loadMessages()]);
  await markRead();
}

function drawLive(isLive) {
  $("live").classList.toggle("on", isLive);
  $("live").textContent = isLive ? "Live" : "Offline";
  $("live").title = isLive ? "" : "Live updates are off; trying to reconnect.";
}

let reloadTimer = 0;

/** Sends and their outcomes are told as a change of the conversation, without the message. */
function reloadIfBehind(conversation) {
  const messages = sortedMessages();
  const isBehind = conversation.lastMessageAt > (messages.at(-1)?.sentAt ?? "");
  const isWaiting = messages.some((it) => WAITING[it.status]);
  if (!isBehind && !isWaiting) return;
  clearTimeout(reloadTimer);
  reloadTimer = setTimeout(() => loadMessages().catch(() => {}), 150);
}

const onEvent = {
  authenticated() {
    drawLive(true);
    // What happened while nobody listened.
    catchUp().catch(failed);
  },
  new_message({ message, conversation }) {
    if (conversation) keepConversation(conversation);
    // Some platforms tell the name later, and that is no event.
    if (conversation?.participantName === conversation?.participantId) {
      setTimeout(() => loadConversation(message.conversationId), NAME_AFTER_MS);
    }
    if (message.conversationId !== state.open) return;
    state.messages.set(message.id, message);
    drawMessages();
    if (message.isOutgoing) return;
    $("announcer").textContent = `${message.senderName}: ${message.content}`;
    markRead().catch(failed);
  },
  message_status_update({ messageId, status, timestamp }) {
    const message = state.messages.get(messageId);
    if (!message) return;
    if (message.isOutgoing) message.deliveredAt ??= timestamp;
    if (status === "read") message.isRead = true;
    drawMessages();
  },
  unread_count_update({ totalUnread }) {
    drawUnread(totalUnread);
  },
  conversation_update({ conversation }) {
    keepConversation(conversation);
    if (conversation.id === state.open) reloadIfBehind(conversation);
  },
  error({ error }) {
    notify(error, true);
  },
};

// ---------------------------------------------------------------- accounts

async function loadAccounts() {
  const { accounts } = await api("/api/oauth/accounts");
  reconcile($("account-list"), accounts, () => el("li"), fillAccount);
  $("no-accounts").hidden = accounts.length > 0;
}

function fillAccount(node, it) {
  const platform = platformName(it.platform);
  const since = `${platform} · since ${dateOf(it.createdAt)}`;
  const button = el("button", { type: "button", className: "outline" }, "Disconnect");
  button.ariaLabel = `Disconnect ${it.platformUsername}`;
  once(button, () => disconnect(it));
  const about = el("div", {},
    el("p", { className: "name" }, it.platformUsername),
    el("p", { className: "via" }, since));
  node.replaceChildren(avatar(platform, it.platform), about, button);
}

async function disconnect({ id, platformUsername: name }) {
  const after = "Its conversations are hidden until you connect it again.";
  if (!confirm(`Disconnect ${name}? ${after}`)) return;
  await api(`/api/oauth/disconnect/${id}`, { method: "DELETE" });
  notify(`Disconnected ${name}.`);
  await Promise.all([loadAccounts(), loadConversations(), loadUnread()]);
}

async function connect(platform) {
  location.assign((await api(`/api/oauth/connect/${platform}`)).authorizationUrl);
}

/** What to say to somebody who comes back from a platform, and whether it is bad news. */
function connectOutcome(query) {
  const error = query.get("error");
  const platform = platformName(query.get("platform") ?? "");
  if (query.get("success") === "true" && platform) {
    return [`Successfully connected your ${platform} account.`, false];
  }
  if (!error) return ["That was no valid answer of a platform. Please try again.", true];
  const again = error === "callback_failed" ? " Please try again." : "";
  return [query.get("message") || `Failed to connect ${platform}.${again}`, true];
}

// ---------------------------------------------------------------- logging in

function drawEnter(isNew) {
  $("enter-title").textContent = isNew ? "Create an account" : "Log in";
  $("enter-go").textContent = isNew ? "Create account" : "Log in";
  $("enter-other").textContent = isNew ? "I have an account" : "Create an account";
  $("enter-other").href = isNew ? "/login" : "/register";
  $("password").autocomplete = isNew ? "new-password" : "current-password";
  say("enter-error");
  // The server names a demo login only where there is one.
  const demo = document.querySelector('meta[name="hub-demo-login"]')?.content;
  $("demo").hidden = isNew || !demo;
  $("demo-login").textContent = demo ?? "";
  $("email").focus();
}

async function onEnter() {
  const way = location.pathname.startsWith("/register") ? "register" : "login";
  say("enter-error");
  $("enter-go").disabled = true;
  try {
    await enter(way, $("email").value, $("password").value);
    $("password").value = "";
    notify();
    begin();
  } catch (problem) {
    say("enter-error", problem.message);
  } finally {
    $("enter-go").disabled = false;
  }
}

// ---------------------------------------------------------------- where we are

function show(view) {
  for (const name of VIEWS) $(name).hidden = name !== view;
  $("bar").hidden = !session();
  $("who").textContent = $("who").title = session()?.email ?? "";
  for (const link of document.querySelectorAll("nav a")) {
    const leadsTo = link.pathname === "/dashboard" ? "inbox" : "accounts";
    link.ariaCurrent = leadsTo === view ? "page" : null;
  }
}

function go(address, how = "pushState") {
  history[how](null, "", address);
  route();
}

function route() {
  const path = location.pathname.replace(/\/+$/, "");
  if (path === "/connect") {
    notify(...connectOutcome(new URLSearchParams(location.search)));
    go("/accounts", "replaceState");
  } else if (!session()) {
    show("enter");
    drawEnter(path === "/register");
  } else if (path === "/accounts") {
    show("accounts");
    loadAccounts().catch(failed);
  } else if (path === "/auth/telegram") {
    show("telegram");
  } else if (path !== "/dashboard") {
    go("/dashboard", "replaceState");
  } else {
    show("inbox");
    const id = location.hash.slice(1) || null;
    if (id !== state.open) openThread(id).catch(failed);
  }
}

/** Also after logging in. The lists do not wait for the live connection: it may never come. */
function begin() {
  route();
  if (!session()) return;
  catchUp().catch(failed);
  live.connect();
}

function onLink(event) {
  const link = event.target.closest('a[href^="/"]');
  const isPlain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey;
  if (!link || !isPlain) return;
  event.preventDefault();
  notify();
  go(link.getAttribute("href"));
}

function onKey(event) {
  // While an input method composes a character, Enter belongs to it.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
}

/** One click, one go: the button waits until its work is done. */
function once(button, work) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    await work().catch(failed);
    button.disabled = false;
  });
}

function onSubmit(form, work) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    work();
  });
}

function onVisible() {
  if (document.hidden || !session()) return;
  live.connect();
  markRead().catch(failed);
}

function fillDemo() {
  [$("email").value, $("password").value] = $("demo-login").textContent.split(" / ");
  $("enter-go").focus();
}

function listen() {
  document.addEventListener("click", onLink);
  document.addEventListener("visibilitychange", onVisible);
  addEventListener("online", () => live.connect());
  addEventListener("popstate", route);
  // Another tab logged out.
  addEventListener("storage", ({ key }) => {
    if (key === "hub.session" && !session() && !$("bar").hidden) leave();
  });
  onSubmit($("enter-form"), onEnter);
  onSubmit($("composer"), send);
  $("text").addEventListener("keydown", onKey);
  $("text").addEventListener("input", fitText);
  $("notice-close").addEventListener("click", () => notify());
  $("demo-fill").addEventListener("click", fillDemo);
  once($("logout"), logOut);
  once($("more-conversations"), () => loadConversations(state.conversations.size));
  once($("more-messages"), () => loadMessages(state.messages.size));
  for (const platform of CONNECTABLE) {
    const props = { type: "button", className: "outline" };
    const button = el("button", props, `Connect ${platformName(platform)}`);
    once(button, () => connect(platform));
    $("connect").append(button);
  }
}

listen();
const notice = sessionStorage.getItem("hub.notice");
sessionStorage.removeItem("hub.notice");
if (notice) notify(notice);
begin();
