"""Where the checks play: a hub with its sandbox, a neighbour that records, and the list of outcomes.

A check is a line. It holds, or it says what differs; whatever raises inside of it is what differs.
"""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests.adapters

# The registrations that `hub dev` invents for everybody (config/src/development.rs).
TELEGRAM_TOKEN = "7100000001:AAHub-fictional_TokenForTests0123456789"
TELEGRAM_SECRET = "hub_Secret-Token_01"
FACEBOOK = ("845120034567890", "0f1e2d3c4b5a69788796a5b4c3d2e1f0")
WHATSAPP = ("845120034567895", "7c4a8d09ca3762af61e59520943dc264")
VERIFY_TOKEN = "hub-dev-verify"
TEAMS = ("0d9e7a52-1111-4222-8333-444455556666", "8Q~hub-fictional_ClientSecretForTests01")
X = ("hubFictionalClientId", "hubFictionalClientSecret0123456789")
LINKEDIN = ("86hubfictional", "hubTestLinkedInSecret42")
X_CONSUMER_SECRET = "hubTestConsumerSecret0123456789abcdefghijklmnopqrstuv"

outcomes = []


class Differs(Exception):
    """The foreign software saw something else than it, or we, expect."""


@contextlib.contextmanager
def check(what):
    """One line of the report. What raises inside fails this check and no other."""
    try:
        yield
    except Exception as error:  # noqa: BLE001: whatever it is, it is what differs
        outcomes.append((what, False))
        said = str(error).strip() or error.__class__.__name__
        print(f"failed  {what}: {said[:600]}", flush=True)
        if not isinstance(error, Differs) and os.environ.get("CERTIFY_TRACE"):
            traceback.print_exc()
    else:
        outcomes.append((what, True))
        print(f"ok      {what}", flush=True)


def same(what, found, expected):
    """Raises unless both are equal."""
    if found != expected:
        raise Differs(f"{what} is {found!r}, expected {expected!r}")


def true(what, found):
    """Raises unless it is so."""
    if not found:
        raise Differs(what)


def within(seconds, what, probe):
    """The first answer of the probe that counts as true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := probe():
            return found
        time.sleep(0.05)
    raise Differs(f"{what} did not happen within {seconds} s")


def free_port():
    """A port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


_plain = urllib.request.build_opener(_Stay, urllib.request.ProxyHandler({}))


def call(method, url, body=None, token=None, headers=None, form=None):
    """Status, headers and body of one request; nothing is followed."""
    given = dict(headers or {})
    data = None
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given.setdefault("content-type", "application/json")
    if form is not None:
        data = urllib.parse.urlencode(form).encode()
    if token:
        given["authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data, given, method=method)
    try:
        answer = _plain.open(request, timeout=30)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    with answer:
        raw = answer.read()
        try:
            content = json.loads(raw)
        except ValueError:
            content = raw.decode(errors="replace")
        return answer.status, answer.headers, content


def location(url):
    """Where a page sends a browser; with the parameters of that address."""
    status, headers, content = call("GET", url)
    if status not in (302, 303):
        raise Differs(f"{url.split('?')[0]} answered {status} {str(content)[:200]}, not a redirect")
    target = headers["location"]
    return target, dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query))


class Sent(requests.adapters.HTTPAdapter):
    """Sends what a library says to a platform's host to the sandbox instead, path and all."""

    def __init__(self, base):
        super().__init__()
        self.base = base

    def send(self, request, *arguments, **named):
        there = urllib.parse.urlsplit(request.url)
        request.url = self.base + urllib.parse.urlunsplit(("", "", there.path, there.query, ""))
        request.headers["Host"] = urllib.parse.urlsplit(self.base).netloc
        named["verify"], named["cert"], named["proxies"] = False, None, {}
        return super().send(request, *arguments, **named)


class Recorder:
    """A neighbour that takes every webhook and keeps what came."""

    def __init__(self):
        self.got = got = queue.Queue()

        class Take(BaseHTTPRequestHandler):
            def do_POST(self):
                raw = self.rfile.read(int(self.headers["content-length"] or 0))
                got.put((self.path, self.headers, raw))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}"

    def next(self, wanted=lambda path, raw: True):
        """The next webhook that is wanted: headers and raw body."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                path, headers, raw = self.got.get(timeout=1)
            except queue.Empty:
                continue
            if wanted(path, raw):
                return headers, raw
        raise Differs("no webhook came within 10 s")


class Stage:
    """`hub dev` with settings of its own."""

    def __init__(self, settings, log="hub.log", port=None):
        self.folder = tempfile.TemporaryDirectory(prefix="hub-certify-")
        self.hub = f"http://127.0.0.1:{port or free_port()}"
        self.sandbox = f"http://127.0.0.1:{free_port()}"
        self.log = open(os.path.join(os.environ["CERTIFY_HOME"], log), "w")
        environment = {
            **os.environ,
            "FRONTEND_URL": "http://localhost:5173",
            **settings,
            "PORT": self.hub.rsplit(":", 1)[1],
            "SANDBOX_PORT": self.sandbox.rsplit(":", 1)[1],
            "SANDBOX_CUSTOMERS": "false",
            "HUB_DATA_DIR": self.folder.name,
            "WEBHOOK_BASE_URL": self.hub,
        }
        self.process = subprocess.Popen(
            [os.environ["HUB_BINARY"], "dev"], env=environment, stdout=subprocess.PIPE,
            stderr=self.log, text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self.ready = threading.Event()

    def _listen(self):
        for line in self.process.stdout:
            self.log.write(line)
            self.log.flush()
            if "Ready after" in line:
                self.ready.set()

    def wait(self):
        """Returns when the hub and the demo are there."""
        end = time.monotonic() + 180
        while not self.ready.wait(0.2):
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"The hub did not start; see {self.log.name}")

    def stop(self):
        """Ends the hub and its database, and forgets both."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()
        self.folder.cleanup()

    def deliver_to(self, base):
        """Where the sandbox's webhooks go."""
        status, _, content = call("PUT", f"{self.sandbox}/control/hub", {"base": base})
        same("the answer of /control/hub", (status, content), (200, {"ok": True}))

    def customer(self, platform, sender, text, account=None, name="Mira Vogel"):
        """A customer writes; the message's id and the status the webhook was answered with."""
        body = {"platform": platform, "from": {"id": sender, "name": name}, "text": text}
        if account:
            body["account"] = account
        status, _, content = call("POST", f"{self.sandbox}/control/incoming", body)
        same("the status of /control/incoming", status, 200)
        return content["messageId"], content["status"]

    def sent(self, platform):
        """What a platform accepted."""
        return call("GET", f"{self.sandbox}/control/sent?platform={platform}")[2]["messages"]

    def person(self, email="certify@hub.local", password="certify-certify-1"):
        """The access token of a user of the hub, who is made when new."""
        asked = {"email": email, "password": password}
        status, _, content = call("POST", f"{self.hub}/api/auth/register", asked)
        if status >= 400:
            status, _, content = call("POST", f"{self.hub}/api/auth/login", asked)
        true(f"logging in answered {status} {content}", status < 300)
        return content["tokens"]["accessToken"]
