// Talking to the hub: who is logged in, requests, and the live connection.

const REQUEST_WITHIN_MS = 15_000;
const RECONNECT_FIRST_MS = 1_000;
const RECONNECT_MAX_MS = 30_000;
const PING_EVERY_MS = 25_000;

/** Read from the storage each time: another tab may have renewed it, or logged out. */
export function session() {
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
export function leave(notice) {
  localStorage.removeItem("hub.session");
  if (notice) sessionStorage.setItem("hub.notice", notice);
  location.replace("/login");
}

/** `way` is "login" or "register". */
export async function enter(way, email, password) {
  const body = { email, password };
  const answer = await read(await request(`/api/auth/${way}`, { method: "POST", body }));
  keepSession(answer.tokens, answer.user.email);
}

export async function logOut() {
  const body = { refreshToken: session()?.refresh ?? "" };
  await request("/api/auth/logout", { method: "POST", body }).catch(() => {});
  leave();
}

/** What went wrong, in words for the person. */
class Problem extends Error {
  constructor(message, details = null) {
    super(message);
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
  // Some routes put the words themselves into `error`, the others an object.
  const error = typeof body.error === "object" ? body.error : body;
  throw new Problem(error?.message ?? `The hub answered ${response.status}.`, error?.details);
}

/** A call with the session's token, renewed once if it has expired. */
export async function api(path, options = {}) {
  const token = session()?.access;
  let response = await request(path, { ...options, token });
  if (response.status === 401) {
    await renewOrLeave(token);
    response = await request(path, { ...options, token: session()?.access });
  }
  return read(response);
}

let renewing = null;

/** Requests that fail together renew together. */
async function renewOrLeave(stale) {
  renewing ??= renew(stale).finally(() => { renewing = null; });
  if (await renewing) return;
  leave("Your session has ended. Please log in again.");
  await new Promise(() => {}); // The page is about to go: nobody is to act on this.
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
  // Another tab may have been faster: then the token is used up, and a new one is there.
  return (session()?.access ?? stale) !== stale;
}

/** The live connection: tells events by name, and connects again for as long as there is a page. */
export class Live {
  #tell;
  #closed;
  #socket = null;
  #failures = 0;
  #timer = 0;
  #isAnswered = true;

  /** `tell(event, data)`; `closed(failures)` before each wait for another attempt. */
  constructor(tell, closed) {
    this.#tell = tell;
    this.#closed = closed;
    setInterval(() => this.#check(), PING_EVERY_MS);
  }

  connect() {
    clearTimeout(this.#timer);
    const token = session()?.access;
    if (!token || this.#socket) return;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const query = `token=${encodeURIComponent(token)}`;
    const socket = new WebSocket(`${scheme}//${location.host}/ws/messages/?${query}`);
    this.#socket = socket;
    this.#isAnswered = true;
    socket.addEventListener("message", ({ data }) => this.#hear(JSON.parse(data)));
    socket.addEventListener("close", ({ code }) => this.#end(socket, code, token));
  }

  #hear({ event, data }) {
    this.#isAnswered = true;
    if (event === "authenticated") this.#failures = 0;
    this.#tell(event, data);
  }

  async #end(socket, code, token) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    this.#closed(this.#failures);
    // While the hub is away nobody can be told off for a stale token.
    if (code === 4001) await renewOrLeave(token).catch(() => {});
    const most = Math.min(RECONNECT_MAX_MS, RECONNECT_FIRST_MS * 2 ** this.#failures);
    this.#failures += 1;
    // Spread, so that a restarted hub does not meet everybody at once.
    this.#timer = setTimeout(() => this.connect(), most * (0.5 + Math.random() / 2));
  }

  /** A connection that died silently never closes by itself. */
  #check() {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) return;
    if (!this.#isAnswered) {
      socket.close();
      this.#end(socket);
      return;
    }
    this.#isAnswered = false;
    socket.send(JSON.stringify({ event: "ping", timestamp: Date.now() }));
  }
}
