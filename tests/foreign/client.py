"""A built web client in Chromium: served by the hub from STATIC_DIR, and by somebody else.

The client in client/ does what the contract says the real one does, with the same libraries, and is built
the same way: hashed files, styles that a library writes into the page, pictures by their address. What is
seen and clicked is in browser.mjs; the pages that the hub and its sandbox bring are opened as well.
"""

import json
import os
import pathlib
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from .stage import Differs, Stage, check, free_port, outcomes

SOURCE = pathlib.Path(__file__).with_name("client")
# Short, so that the browser meets expired tokens; and what an installation of this client sets.
SETTINGS = {"HUB_ACCESS_TTL_SECONDS": "15", "REFRESH_REUSE_WINDOW_SECONDS": "604800"}


class Elsewhere:
    """Serves a built client as any web server does: files, and the index for what is none."""

    def __init__(self, port, folder):
        class Give(SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=folder)

            def send_head(self):
                if not pathlib.Path(self.translate_path(self.path)).is_file():
                    self.path = "/index.html"
                return super().send_head()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Give)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self):
        self.server.shutdown()


def build(name, base=""):
    """Builds the client; it calls the hub at this address, or where it was loaded from."""
    # Beside the packages, where its imports are looked for.
    home = pathlib.Path(os.environ["CERTIFY_HOME"]) / "npm"
    copy, out = home / "client", home.parent / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(SOURCE, copy)
    built = subprocess.run(
        ["node", home / "node_modules/vite/bin/vite.js", "build", copy, "--outDir", out, "--emptyOutDir"],
        env={**os.environ, "VITE_API_BASE_URL": base}, capture_output=True, text=True, timeout=120, check=False)
    if built.returncode:
        raise Differs(f"the client was not built: {built.stderr}")
    return out


def browse(scene, stage, page):
    """Plays a scene; each line it says is a check."""
    given = {"hub": stage.hub, "sandbox": stage.sandbox, "page": page,
             "screens": os.path.join(os.environ["CERTIFY_HOME"], "screens")}
    script = pathlib.Path(__file__).with_name("browser.mjs")
    played = subprocess.Popen(["node", script, scene, json.dumps(given)], stdout=subprocess.PIPE, text=True)
    timer = threading.Timer(300, played.kill)
    timer.start()
    for line in played.stdout:
        what, differs = json.loads(line)
        with check(what):
            if differs:
                raise Differs(differs)
    timer.cancel()
    if played.wait():
        raise Differs(f"the scene {scene} broke off")


def run(stage):
    if not os.access(os.environ["CHROMIUM"], os.X_OK):
        raise Differs(f"there is no Chromium at {os.environ['CHROMIUM']}; CHROMIUM says where it is")
    before = len(outcomes)
    browse("pages", stage, stage.hub)
    far, port = free_port(), free_port()
    # Opened at another name than its public address, as behind a proxy.
    page = f"http://localhost:{port}"
    there = Stage({**SETTINGS, "STATIC_DIR": str(build("client")), "FRONTEND_URL": page,
                   "CORS_ORIGINS": f"http://localhost:{far}"}, "client.log", port)
    elsewhere = Elsewhere(far, build("client-afar", there.hub))
    try:
        there.wait()
        browse("client", there, page)
        browse("afar", there, f"http://localhost:{far}")
    finally:
        elsewhere.end()
        there.stop()
    if len(outcomes) - before < 20:
        raise Differs("scenes were cut short")
