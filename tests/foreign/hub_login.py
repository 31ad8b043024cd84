"""The hub connects accounts at an OAuth 2 server that is not ours, with PKCE.

oauth2-mock-server stands where X's and Microsoft's sign-in are (`TWITTER_API_BASE`, `TEAMS_DIALOG_BASE`
and the like). It refuses a verifier that does not fit; that it does is checked here too.
"""

import base64
import hashlib
import json
import os
import pathlib
import queue
import subprocess
import threading
import urllib.parse

from .stage import Differs, call, check, location, same, true, within

# Who the server says connected, by platform.
CONNECTED = {"twitter": "1799000000000000042", "teams": "b2b2b2b2-0000-4000-8000-000000000042"}
TOKEN = {"twitter": "/2/oauth2/token", "teams": "/consumers/oauth2/v2.0/token"}
AUTHORIZE = {"twitter": "/i/oauth2/authorize", "teams": "/consumers/oauth2/v2.0/authorize"}


class OAuthServer:
    """oauth2-mock-server in a process of its own."""

    def __enter__(self):
        script = pathlib.Path(__file__).with_name("oauth-server.mjs")
        self.process = subprocess.Popen(["node", script], stdout=subprocess.PIPE, text=True)
        self.said = queue.Queue()
        self.address = json.loads(self.process.stdout.readline())["address"]
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def _listen(self):
        for line in self.process.stdout:
            self.said.put(json.loads(line))

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)

    def settings(self):
        """The hub's settings: these sign-ins are here, everything else is the sandbox's."""
        names = ("TWITTER_API_BASE", "TWITTER_DIALOG_BASE", "TEAMS_API_BASE", "TEAMS_DIALOG_BASE")
        return dict.fromkeys(names, self.address)

    def hears(self, key, platform, wanted):
        """What it said about this, of this platform, that is wanted; nothing else is kept."""
        while True:
            try:
                word = self.said.get(timeout=10)
            except queue.Empty:
                raise Differs(f"the OAuth server was not {key} by {platform}") from None
            if key in word and word["platform"] == platform and wanted(word):
                return word


def challenge(verifier):
    """RFC 7636, S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def run(stage):
    token = stage.person()
    for platform in CONNECTED:
        with check(f"login: {platform} is connected at oauth2-mock-server, with PKCE (S256)"):
            _connect(stage, token, platform)
        with check(f"login: the same server refuses a wrong verifier ({platform})"):
            _refuses(stage, platform)
        with check(f"login: a code that is not one ends with a sentence, not with success ({platform})"):
            status, _, begun = call("GET", f"{stage.hub}/api/oauth/connect/{platform}", token=token)
            same("the status of connect", status, 200)
            query = urllib.parse.urlencode({"code": "nobody's", "state": begun["state"]})
            _, end = location(f"{stage.hub}/api/oauth/callback/{platform}?{query}")
            true(f"it ended with {end}", "success" not in end and end.get("error"))


def _connect(stage, token, platform):
    status, _, begun = call("GET", f"{stage.hub}/api/oauth/connect/{platform}", token=token)
    same(f"the status of connect ({begun})", status, 200)
    page = begun["authorizationUrl"]
    true(f"the page is {page}", page.startswith(stage.oauth.address))
    back, _ = location(page)
    true(f"the server sends to {back}", back.startswith(f"{stage.hub}/api/oauth/callback/{platform}?"))
    end, outcome = location(back)
    same(f"the outcome at {end}", outcome.get("success"), "true")
    asked = stage.oauth.hears("asked", platform, lambda word: word["asked"]["state"] == begun["state"])
    same("the method", asked["asked"]["code_challenge_method"], "S256")
    given = stage.oauth.hears("exchanged", platform, lambda word: word["exchanged"].get("code") == asked["code"])
    same("the verifier's challenge", challenge(given["exchanged"]["code_verifier"]), asked["asked"]["code_challenge"])
    same("the redirect address of both", given["exchanged"]["redirect_uri"], asked["asked"]["redirect_uri"])
    same("the exchange", given["status"], 200)
    accounts = within(5, "the account in the list", lambda: [
        one for one in call("GET", f"{stage.hub}/api/oauth/accounts", token=token)[2]["accounts"]
        if one["platform"] == platform])
    same("who is connected", accounts[0]["platformUserId"], CONNECTED[platform])
    # A state is good once.
    same("the status of coming back again", call("GET", back)[0], 400)


def _refuses(stage, platform):
    verifier = base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    asked = {"response_type": "code", "client_id": "anybody", "redirect_uri": f"{stage.hub}/nowhere", "state": "s",
             "code_challenge": challenge(verifier), "code_challenge_method": "S256"}
    for used, expected in (("x" * 43, 400), (verifier, 200)):
        there = f"{stage.oauth.address}{AUTHORIZE[platform]}?{urllib.parse.urlencode(asked)}"
        _, back = location(there)
        status = call("POST", stage.oauth.address + TOKEN[platform], form={
            "grant_type": "authorization_code", "code": back["code"], "code_verifier": used})[0]
        true(f"the server answered {status}", (status == 200) == (expected == 200))
