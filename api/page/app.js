// The built-in inbox: one page over the same API any other client uses.
//
// Whatever comes from the API or the address bar reaches the page as text, never as HTML.

const $ = (id) => document.getElementById(id);

const PLATFORMS = {
  telegram: "Telegram", twitter: "Twitter", linkedin: "LinkedIn", instagram: "Instagram",
  whatsapp: "WhatsApp", facebook: "Facebook", teams: "Teams",
};
/** What this hub can connect. */
const CONNECTABLE = ["facebook", "telegram"];
const VIEWS = ["enter", "inbox", "accounts", "telegram"];

const PAGE_ROWS = 50;
const REQUEST_WITHIN_MS = 15_000;
const RECONNECT_FIRST_MS = 1_000;
const RECONNECT_MAX_MS = 30_000;
const PING_EVERY_MS = 25_000;

const state = {
  conversations: new Map(),
  hasMoreConversations: false,
  open: null,
  messages: new Map(),
  hasMoreMessages: false,
  unread: 0,
  drafts: new Map(),
};

// ---------------------------------------------------------------- session and requests

/** Read from the storage each time: another tab may have renewed it, or logged out. */
function session() {
  try {
    return JSON.parse(localStorage.getItem("hub.session"));
  } catch {
    return null;
  }
}

function keepSession(tokens, email) {
  const { accessToken: access, refreshToken: refresh } = tokens;
  localStorage.setItem("hub.session", JSON.stringify({ access, refresh, email }));
}

/** Leaves by loading the page anew, so that nothing of one person is left for the next. */
function leave(notice) {
  localStorage.removeItem("hub.session");
  if (notice) sessionStorage.setItem("hub.notice", notice);
  location.replace("/login");
}

class Problem extends Error {
  constructor(message, status = 0, details = null) {
    super(message);
    this.status = status;
    this.details = details;
  }
}

async function request(path, { method = "GET", body, headers = {}, token } = {}) {
  if (body) headers = { ...headers, "Content-Type": "application/json" };
  if (token) headers = { ...headers, Authorization: `Bearer ${token}` };
  try {
    const signal = AbortSignal.timeout(REQUEST_WITHIN_MS);
    return await fetch(path, { method, headers, body: body && JSON.stringify(body), signal });
  } catch {
    throw new Problem("The hub cannot be reached. Please try again in a moment.");
  }
}

async function read(response) {
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  // Some routes answer with the text itself, the others with an object.
  const flat = typeof body.error === "string";
  const message = flat ? body.error : body.error?.message;
  const details = flat ? body.details : body.error?.details;
  throw new Problem(message ?? `The hub answered ${response.status}.`, response.status, details);
}

/** A call with the session's token, renewed once if it has expired. */
async function api(path, options = {}) {
  const token = session()?.access;
  let response = await request(path, { ...options, token });
  if (response.status === 401) {
    if (!(await renewed(token))) {
      leave("Your session has ended. Please log in again.");
      return new Promise(() => {}); // The page is about to go: nobody is to act on this.
    }
    response = await request(path, { ...options, token: session()?.access });
  }
  return read(response);
}

let renewing = null;

/** Whether there is a newer token than this one. Requests that fail together renew once. */
async function renewed(stale) {
  renewing ??= renew(stale).finally(() => { renewing = null; });
  return renewing;
}

async function renew(stale) {
  const before = session();
  if (!before) return false;
  if (before.access !== stale) return true;
  const body = { refreshToken: before.refresh };
  const response = await request("/api/auth/refresh", { method: "POST", body });
  if (response.ok) {
    keepSession(await response.json(), before.email);
    return true;
  }
  // Only a refusal ends a session; a hub that is restarting does not.
  if (response.status !== 401 && response.status !== 400) await read(response);
  const now = session();
  return now !== null && now.access !== stale;
}

// ---------------------------------------------------------------- drawing

function el(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function show(view) {
  for (const name of VIEWS) $(name).hidden = name !== view;
  $("bar").hidden = !session();
  $("who").textContent = $("who").title = session()?.email ?? "";
  for (const link of document.querySelectorAll("nav a")) {
    const isHere = link.getAttribute("href") === (view === "inbox" ? "/dashboard" : "/accounts");
    link.toggleAttribute("aria-current", isHere);
    if (isHere) link.setAttribute("aria-current", "page");
  }
}

function say(id, text) {
  $(id).textContent = text ?? "";
  $(id).hidden = !text;
}

function notify(text, isBad = false) {
  $("notice").hidden = !text;
  $("notice").classList.toggle("bad", isBad);
  $("notice-text").textContent = text ?? "";
}

const failed = (problem) => notify(problem.message, true);

const drawn = new WeakMap();

/** Makes the children of a list match the items, touching only what differs: focus stays. */
function reconcile(parent, items, make, fill) {
  const wanted = new Set(items.map((item) => item.id));
  const old = new Map();
  for (const node of [...parent.children]) {
    if (wanted.has(node.dataset.id)) old.set(node.dataset.id, node);
    else node.remove();
  }
  const focused = document.activeElement;
  let next = parent.firstElementChild;
  for (const item of items) {
    const node = old.get(item.id) ?? make(item);
    node.dataset.id = item.id;
    const content = JSON.stringify(item);
    if (drawn.get(node) !== content) fill(node, item);
    drawn.set(node, content);
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
  }
  if (parent.contains(focused)) focused.focus({ preventScroll: true });
}

const format = (options) => new Intl.DateTimeFormat(undefined, options);
const clock = format({ hour: "2-digit", minute: "2-digit" });
const shortDay = format({ day: "numeric", month: "short" });
const longDay = format({ weekday: "long", day: "numeric", month: "long" });
const date = format({ dateStyle: "medium" });
const full = format({ dateStyle: "full", timeStyle: "short" });

function time(iso, text) {
  return el("time", { dateTime: iso, title: full.format(new Date(iso)) }, text);
}

function shortTime(iso) {
  const at = new Date(iso);
  const now = new Date();
  if (at.toDateString() === now.toDateString()) return clock.format(at);
  return (at.getFullYear() === now.getFullYear() ? shortDay : date).format(at);
}

function dayName(at) {
  const today = new Date();
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (at.toDateString() === today.toDateString()) return "Today";
  if (at.toDateString() === yesterday.toDateString()) return "Yesterday";
  return (at.getFullYear() === today.getFullYear() ? longDay : date).format(at);
}

function paintAvatar(node, name, id) {
  const words = name.split(/\s+/).filter((word) => /^[\p{L}\p{N}]/u.test(word));
  const initials = words.slice(0, 2).map((word) => [...word][0].toUpperCase());
  node.textContent = initials.join("") || "?";
  const hue = [...id].reduce((sum, char) => (sum * 31 + char.codePointAt(0)) % 360, 7);
  node.style.setProperty("--hue", hue);
}

const via = (it) => `${PLATFORMS[it.platform] ?? it.platform} · ${it.platformUsername}`;

// ---------------------------------------------------------------- conversations

async function loadConversations(offset = 0) {
  const page = await api(`/api/conversations?limit=${PAGE_ROWS}&offset=${offset}`);
  if (offset === 0) state.conversations.clear();
  for (const it of page.conversations) state.conversations.set(it.id, it);
  state.hasMoreConversations = page.hasMore;
  drawConversations();
}

async function loadUnread() {
  drawUnread((await api("/api/messages/unread/count")).total);
}

function drawUnread(total) {
  state.unread = total;
  say("total", total > 0 ? String(total) : "");
  document.title = total > 0 ? `(${total}) Hub` : "Hub";
}

function drawConversations() {
  const newest = (a, b) => (a.lastMessageAt < b.lastMessageAt ? 1 : -1);
  const items = [...state.conversations.values()].sort(newest);
  reconcile(
    $("conversations"),
    items.map((it) => ({ ...it, isOpen: it.id === state.open, at: shortTime(it.lastMessageAt) })),
    (it) => el("li", {}, el("a", { href: `/dashboard#${it.id}` })),
    (node, it) => fillConversation(node.firstChild, it),
  );
  const empty = "No conversations yet. They appear here as soon as somebody writes.";
  say("no-conversations", items.length === 0 ? empty : "");
  $("more-conversations").hidden = !state.hasMoreConversations;
}

function fillConversation(link, it) {
  const avatar = el("span", { className: "avatar", ariaHidden: "true" });
  paintAvatar(avatar, it.participantName, it.id);
  const unread = it.unreadCount > 0
    ? el("span", { className: "badge" }, String(it.unreadCount),
      el("span", { className: "away" }, " unread"))
    : null;
  link.classList.toggle("unread", it.hasUnread);
  link.toggleAttribute("aria-current", it.isOpen);
  link.replaceChildren(
    avatar,
    el("span", { className: "name" }, it.participantName),
    time(it.lastMessageAt, it.at),
    el("span", { className: "via" }, via(it)),
    ...(unread ? [unread] : []),
  );
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
  drawThreadHead();
  // On a touch screen focusing the box would raise the keyboard over the messages.
  (matchMedia("(hover: hover)").matches ? $("text") : $("thread-name")).focus();
  if (!state.conversations.has(id)) await findConversation(id);
  await loadMessages();
  await markRead();
}

async function findConversation(id) {
  const found = await api(`/api/conversations/${id}`).catch(() => null);
  if (found && state.open === id) keepConversation(found);
}

function keepConversation(conversation) {
  state.conversations.set(conversation.id, conversation);
  drawConversations();
  if (conversation.id === state.open) drawThreadHead();
}

function drawThreadHead() {
  const it = state.conversations.get(state.open);
  $("thread-name").textContent = it?.participantName ?? "…";
  $("thread-via").textContent = it ? via(it) : "";
  paintAvatar($("thread-avatar"), it?.participantName ?? "", state.open);
}

async function loadMessages(offset = 0) {
  const id = state.open;
  if (id === null) return;
  const page = await api(`/api/messages/${id}?limit=${PAGE_ROWS}&offset=${offset}`);
  if (state.open !== id) return;
  if (offset === 0) forgetFrom(page.messages.at(-1));
  for (const message of page.messages) state.messages.set(message.id, message);
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
    const name = dayName(new Date(message.sentAt));
    if (name !== day) items.push({ id: `day ${name}`, day: (day = name) });
    items.push(message);
  }
  $("more-messages").hidden = !state.hasMoreMessages;
  reconcile($("messages"), items, () => el("li"), (node, it) => {
    if (it.day) node.replaceChildren(el("span", {}, it.day));
    else fillMessage(node, it);
    if (it.day) node.className = "day";
  });
  if (wasAtEnd && !isOlder) scroll.scrollTop = scroll.scrollHeight;
  else if (isOlder) scroll.scrollTop = scroll.scrollHeight - below;
}

function fillMessage(node, it) {
  const status = it.isOutgoing ? statusOf(it) : null;
  node.className = `message ${status ? `out ${status.look}` : "in"}`;
  const bubble = el("div", { className: "bubble" });
  if (it.messageType !== "text") bubble.append(mediaOf(it));
  if (it.content) bubble.append(it.content);
  const meta = el("div", { className: "meta" }, time(it.sentAt, clock.format(new Date(it.sentAt))));
  if (status) {
    const label = el("span", { className: "state", title: status.why ?? "" }, status.text);
    meta.append(" · ", label);
  }
  const speaker = el("span", { className: "away" }, `${it.isOutgoing ? "You" : it.senderName}: `);
  node.replaceChildren(speaker, bubble, meta);
}

function mediaOf(it) {
  const label = `[${it.messageType}]${it.content ? "\n" : ""}`;
  if (!/^https?:/.test(it.mediaUrl ?? "")) return el("span", { className: "kind" }, label);
  return el("a", { href: it.mediaUrl, target: "_blank", rel: "noreferrer" }, label);
}

/** Where a message of ours is on its way. */
function statusOf(it) {
  switch (it.status) {
    case "queued": return { text: "◷ Queued", look: "pending" };
    case "sending": return { text: "◷ Sending", look: "pending" };
    case "failed": return { text: "✕ Not sent", look: "failed" };
    case "uncertain": return {
      text: "? Uncertain",
      look: "uncertain",
      why: "The platform did not confirm it: it may have arrived or not.",
    };
  }
  if (it.isRead) return { text: "✓✓ Read", look: "read" };
  if (it.deliveredAt) return { text: "✓✓ Delivered", look: "" };
  return { text: "✓ Sent", look: "" };
}

async function markRead() {
  const conversation = state.conversations.get(state.open);
  if (document.hidden || !conversation?.hasUnread) return;
  const { id } = conversation;
  await api(`/api/messages/conversation/${id}/read`, { method: "PATCH" });
  // The same arrives over the socket; without one this is all there is.
  const now = state.conversations.get(id) ?? conversation;
  keepConversation({ ...now, unreadCount: 0, hasUnread: false });
  await loadUnread();
}

// ---------------------------------------------------------------- sending

/** The last try whose outcome is unknown. Trying it again under its key cannot send it twice. */
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
  sending(true);
  say("composer-error");
  try {
    const answer = await api(`/api/messages/${id}/send`, { method: "POST", body: { content }, headers });
    attempt = null;
    sent(id, answer.message);
  } catch (problem) {
    // A message that failed for good is in the thread; another try is another message.
    if (problem.details?.messageId) attempt = null;
    if (state.open === id) {
      say("composer-error", problem.message);
      loadMessages().catch(() => {});
    }
  } finally {
    sending(false);
  }
}

function sent(id, message) {
  state.drafts.delete(id);
  if (state.open !== id) return;
  $("text").value = "";
  fitText();
  state.messages.set(message.id, message);
  drawMessages();
  $("scroll").scrollTop = $("scroll").scrollHeight;
}

function sending(isBusy) {
  $("send").disabled = isBusy;
  $("text").readOnly = isBusy;
  $("send").textContent = isBusy ? "Sending…" : "Send";
}

function fitText() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight + 2}px`;
}

// ---------------------------------------------------------------- live

const live = { socket: null, failures: 0, timer: 0, heard: 0 };

function connectLive() {
  clearTimeout(live.timer);
  const token = session()?.access;
  if (!token || live.socket) return;
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const address = `${scheme}//${location.host}/ws/messages/?token=${encodeURIComponent(token)}`;
  const socket = new WebSocket(address);
  live.socket = socket;
  live.heard = Date.now();
  socket.addEventListener("message", ({ data }) => {
    live.heard = Date.now();
    const { event, data: payload } = JSON.parse(data);
    onEvent[event]?.(payload);
  });
  socket.addEventListener("close", ({ code }) => onClosed(socket, code, token));
}

async function onClosed(socket, code, token) {
  if (live.socket !== socket) return;
  live.socket = null;
  drawLive(false);
  try {
    if (code === 4001 && !(await renewed(token))) {
      leave("Your session has ended. Please log in again.");
      return;
    }
    // Live or not, the page is not to fall far behind.
    if (live.failures > 0 && !document.hidden) await catchUp();
  } catch {
    // The hub is away; the next attempt finds out whether it is back.
  }
  const most = Math.min(RECONNECT_MAX_MS, RECONNECT_FIRST_MS * 2 ** live.failures);
  live.failures += 1;
  // Spread, so that a restarted hub does not meet everybody at once.
  clearTimeout(live.timer);
  live.timer = setTimeout(connectLive, most * (0.5 + Math.random() / 2));
}

/** A connection that died silently never closes by itself. */
function checkLive() {
  const { socket } = live;
  if (socket?.readyState !== WebSocket.OPEN) return;
  if (Date.now() - live.heard > 2.5 * PING_EVERY_MS) {
    onClosed(socket, 0, null);
    socket.close();
  } else {
    socket.send(JSON.stringify({ event: "ping", timestamp: Date.now() }));
  }
}

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
  const isWaiting = messages.some((it) => ["queued", "sending", "uncertain"].includes(it.status));
  if (!isBehind && !isWaiting) return;
  clearTimeout(reloadTimer);
  reloadTimer = setTimeout(() => loadMessages().catch(() => {}), 150);
}

const onEvent = {
  authenticated() {
    drawLive(true);
    live.failures = 0;
    // What happened while nobody listened.
    catchUp().catch(failed);
  },
  new_message({ message, conversation }) {
    if (conversation) keepConversation(conversation);
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
    message.deliveredAt ??= message.isOutgoing ? timestamp : null;
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
  const platform = PLATFORMS[it.platform] ?? it.platform;
  const avatar = el("span", { className: "avatar", ariaHidden: "true" });
  paintAvatar(avatar, platform, it.platform);
  const since = `${platform} · connected on ${date.format(new Date(it.createdAt))}`;
  const button = el("button", {
    type: "button",
    className: "outline",
    ariaLabel: `Disconnect ${it.platformUsername}`,
    onclick: () => disconnect(it, button).catch(failed),
  }, "Disconnect");
  const about = el("div", {},
    el("p", { className: "name" }, it.platformUsername),
    el("p", { className: "via" }, since));
  node.replaceChildren(avatar, about, button);
}

async function disconnect(account, button) {
  const question = `Disconnect ${account.platformUsername}? Its conversations are hidden until you connect it again.`;
  if (!confirm(question)) return;
  button.disabled = true;
  try {
    await api(`/api/oauth/disconnect/${account.id}`, { method: "DELETE" });
    notify(`Disconnected ${account.platformUsername}.`);
    await Promise.all([loadAccounts(), loadConversations(), loadUnread()]);
  } finally {
    button.disabled = false;
  }
}

async function connect(platform) {
  const { authorizationUrl } = await api(`/api/oauth/connect/${platform}`);
  location.assign(authorizationUrl);
}

/** What to say to somebody who comes back from a platform. */
function connectOutcome(query) {
  const platform = PLATFORMS[query.get("platform")] ?? "the";
  if (query.get("success") === "true" && query.has("platform")) {
    return [`Successfully connected your ${platform} account.`, false];
  }
  if (!query.has("error")) return ["That was no valid answer of a platform. Please try again.", true];
  const again = query.get("error") === "callback_failed" ? " Please try again." : "";
  return [query.get("message") || `The ${platform} account was not connected.${again}`, true];
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

async function enter() {
  const way = location.pathname.startsWith("/register") ? "register" : "login";
  const body = { email: $("email").value, password: $("password").value };
  say("enter-error");
  $("enter-go").disabled = true;
  try {
    const answer = await read(await request(`/api/auth/${way}`, { method: "POST", body }));
    keepSession(answer.tokens, answer.user.email);
    $("password").value = "";
    notify();
    begin();
  } catch (problem) {
    say("enter-error", problem.message);
  } finally {
    $("enter-go").disabled = false;
  }
}

async function logOut() {
  const body = { refreshToken: session()?.refresh ?? "" };
  await request("/api/auth/logout", { method: "POST", body }).catch(() => {});
  leave();
}

// ---------------------------------------------------------------- where we are

function go(address, how = "pushState") {
  history[how](null, "", address);
  route();
}

function route() {
  const path = location.pathname.replace(/\/+$/, "");
  if (path === "/connect") {
    notify(...connectOutcome(new URLSearchParams(location.search)));
    return go("/accounts", "replaceState");
  }
  if (!session()) {
    show("enter");
    return drawEnter(path === "/register");
  }
  if (path === "/accounts") {
    show("accounts");
    return void loadAccounts().catch(failed);
  }
  if (path === "/auth/telegram") return show("telegram");
  if (path !== "/dashboard") return go("/dashboard", "replaceState");
  show("inbox");
  const id = location.hash.slice(1) || null;
  if (id !== state.open) openThread(id).catch(failed);
}

function begin() {
  route();
  if (!session()) return;
  // The socket brings all of this up to date; the page does not wait for it.
  loadConversations().catch(failed);
  loadUnread().catch(failed);
  connectLive();
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

function listen() {
  document.addEventListener("click", onLink);
  addEventListener("popstate", route);
  onSubmit($("enter-form"), enter);
  onSubmit($("composer"), send);
  $("text").addEventListener("keydown", onKey);
  $("text").addEventListener("input", fitText);
  $("notice-close").addEventListener("click", () => notify());
  $("demo-fill").addEventListener("click", () => {
    [$("email").value, $("password").value] = $("demo-login").textContent.split(" / ");
    $("enter-go").focus();
  });
  once($("logout"), logOut);
  once($("more-conversations"), () => loadConversations(state.conversations.size));
  once($("more-messages"), () => loadMessages(state.messages.size));
  for (const platform of CONNECTABLE) {
    const props = { type: "button", className: "outline" };
    const button = el("button", props, `Connect ${PLATFORMS[platform]}`);
    once(button, () => connect(platform));
    $("connect").append(button);
  }
  addEventListener("online", connectLive);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && session()) connectLive(), markRead().catch(failed);
  });
  // Another tab logged out.
  addEventListener("storage", ({ key }) => {
    if (key === "hub.session" && !session() && !$("bar").hidden) leave();
  });
  setInterval(checkLive, PING_EVERY_MS);
}

listen();
const notice = sessionStorage.getItem("hub.notice");
sessionStorage.removeItem("hub.notice");
if (notice) notify(notice);
begin();
