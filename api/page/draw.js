// Putting things on the page: always as text, and only where something differs.

export const $ = (id) => document.getElementById(id);

const PLATFORMS = {
  telegram: "Telegram", twitter: "Twitter", linkedin: "LinkedIn", instagram: "Instagram",
  whatsapp: "WhatsApp", facebook: "Facebook", teams: "Teams",
};

export const platformName = (name) => PLATFORMS[name] ?? name;

/** Where a conversation comes in. */
export const via = (it) => `${platformName(it.platform)} · ${it.platformUsername}`;

export function el(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}

/** Shows a text, or hides its place when there is none. */
export function say(id, text) {
  $(id).textContent = text ?? "";
  $(id).hidden = !text;
}

export function notify(text, isBad = false) {
  say("notice-text", text);
  $("notice").hidden = !text;
  $("notice").classList.toggle("bad", isBad);
}

export const failed = (problem) => notify(problem.message, true);

const drawn = new WeakMap();

/** Makes a list match its items by their ids. What is the same is left alone: focus stays. */
export function reconcile(parent, items, make, fill) {
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

export function avatar(name, id) {
  const node = el("span", { className: "avatar", ariaHidden: "true" });
  const words = name.split(/\s+/).filter((word) => /^[\p{L}\p{N}]/u.test(word));
  const initials = words.slice(0, 2).map((word) => [...word][0].toUpperCase());
  node.textContent = initials.join("") || "?";
  const hue = [...id].reduce((sum, char) => (sum * 31 + char.codePointAt(0)) % 360, 7);
  node.style.setProperty("--hue", hue);
  return node;
}

const format = (options) => new Intl.DateTimeFormat(undefined, options);
const clock = format({ hour: "2-digit", minute: "2-digit" });
const shortDay = format({ day: "numeric", month: "short" });
const longDay = format({ weekday: "long", day: "numeric", month: "long" });
const date = format({ dateStyle: "medium" });
const full = format({ dateStyle: "full", timeStyle: "short" });

/** A time as short as it can be read: `how` is clockOf, shortTime or dateOf. */
export function time(iso, how) {
  return el("time", { dateTime: iso, title: full.format(new Date(iso)) }, how(iso));
}

export const clockOf = (iso) => clock.format(new Date(iso));

export const dateOf = (iso) => date.format(new Date(iso));

export function shortTime(iso) {
  const at = new Date(iso);
  const now = new Date();
  if (at.toDateString() === now.toDateString()) return clock.format(at);
  return (at.getFullYear() === now.getFullYear() ? shortDay : date).format(at);
}

export function dayName(iso) {
  const at = new Date(iso);
  const today = new Date();
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (at.toDateString() === today.toDateString()) return "Today";
  if (at.toDateString() === yesterday.toDateString()) return "Yesterday";
  return (at.getFullYear() === today.getFullYear() ? longDay : date).format(at);
}
