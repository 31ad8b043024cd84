"""LinkedIn's own JavaScript client as an app: sign-in, who somebody is and administers, comments, the change log."""

import json
import pathlib
import subprocess
import urllib.parse

from .stage import LINKEDIN, call, check, location, same, true

REDIRECT = "http://127.0.0.1:9/api/oauth/callback/linkedin"
SCOPES = ["openid", "profile", "w_organization_social", "r_organization_social", "r_dma_portability_self_serve"]
MEMBER = "HubOwn3r_A"
COMPANY = "urn:li:organization:90210042"
CUSTOMER = "CustomerA1"
# The change log has a version of its own.
VERSION, LOG_VERSION = "202609", "202312"


class Refused(Exception):
    """What the client was told instead of an answer."""

    def __init__(self, refusal):
        super().__init__(str(refusal))
        self.status, self.body = refusal["status"], refusal["body"]


class Client:
    """The client in a process of its own."""

    def __init__(self, stage):
        script = pathlib.Path(__file__).with_name("linkedin-client.mjs")
        self.process = subprocess.Popen(
            ["node", script, stage.sandbox, *LINKEDIN, REDIRECT],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)

    def __call__(self, step, **asked):
        self.process.stdin.write(json.dumps([step, asked]) + "\n")
        self.process.stdin.flush()
        said = json.loads(self.process.stdout.readline())
        if "refused" in said:
            raise Refused(said["refused"])
        return said["answer"]


def run(stage):
    with Client(stage) as client:
        with check("linkedin: the client's sign-in ends with a token of sixty days"):
            token = sign_in(stage, client)["access_token"]
        with check("linkedin: a code is good once"):
            refused(400, lambda: client("exchange", code="AQTnobody"))
        _reads(stage, client, token)
        _comments(stage, client, token)
        with check("linkedin: a refresh token, where the app is given one, is good for the next token"):
            call("PUT", f"{stage.sandbox}/control/linkedin/tokens", {"refresh": True})
            first = sign_in(stage, client)
            second = client("refresh", token=first["refresh_token"])
            true("no new token came", second["access_token"] not in (token, first["access_token"]))
            who = client("get", resourcePath="/userinfo", accessToken=second["access_token"])
            same("who it is of", who["sub"], MEMBER)
            refused(400, lambda: client("refresh", token="AQRnobody"))


def sign_in(stage, client):
    """What the exchange of a code gives."""
    page = urllib.parse.urlsplit(client("page", scopes=SCOPES, state="s-1"))
    _, back = location(f"{stage.sandbox}{page.path}?{page.query}")
    same("the state that came back", back.get("state"), "s-1")
    token = client("exchange", code=back["code"])
    same("its life", token["expires_in"], 5_184_000)
    return token


def refused(status, attempt):
    """The body of the refusal that this attempt must meet."""
    try:
        attempt()
    except Refused as refusal:
        same("the status", refusal.status, status)
        return refusal.body
    raise AssertionError("it was not refused")


def _reads(stage, client, token):
    with check("linkedin: who somebody is, and which company they administer"):
        who = client("get", resourcePath="/userinfo", accessToken=token)
        same("who", (who["sub"], who["name"]), (MEMBER, "Nora Wind"))
        asked = {"role": "ADMINISTRATOR", "state": "APPROVED"}
        found = client("finder", resourcePath="/organizationAcls", finderName="roleAssignee",
                       queryParams=asked, versionString=VERSION, accessToken=token)
        same("what they administer", [it["organization"] for it in found["elements"]], [COMPANY])
    with check("linkedin: the change log has a member's message, for who may read it"):
        mid, _ = stage.customer("linkedin", CUSTOMER, "Größe 42?", f"urn:li:person:{MEMBER}")
        log = {"resourcePath": "/memberChangeLogs", "finderName": "memberAndApplication",
               "queryParams": {"startTime": 0, "count": 50}, "accessToken": token}
        found = client("finder", versionString=LOG_VERSION, **log)["elements"]
        told = [(it["resourceId"], it["activity"]["content"]["fallback"]) for it in found]
        true(f"{told}", (mid, "Größe 42?") in told)
        refused(426, lambda: client("finder", versionString=VERSION, **log))
    with check("linkedin: without a token there is nothing"):
        body = refused(401, lambda: client("get", resourcePath="/userinfo", accessToken="AQXnobody"))
        same("the status in it", body["status"], 401)


def _comments(stage, client, token):
    post = f"urn:li:activity:72{COMPANY.rsplit(':', 1)[1]:0>17}"

    def comment(text, actor=COMPANY):
        entity = {"actor": actor, "object": post, "message": {"text": text}}
        return client("create", resourcePath="/socialActions/{post}/comments", pathKeys={"post": post},
                      entity=entity, versionString=VERSION, accessToken=token)

    with check("linkedin: a company comments through the client, once, and gets the comment's id"):
        made = comment("Grüße (42), 1 < 2 ☕")
        kept = [one for one in stage.sent("linkedin") if one["text"] == "Grüße (42), 1 < 2 ☕"]
        same("how often the sandbox kept it", len(kept), 1)
        same("its name", kept[0]["platformMessageId"], f"urn:li:comment:({post},{made['createdEntityId']})")
    with check("linkedin: a comment that is too long, or in another company's name, is refused"):
        refused(400, lambda: comment("x" * 1251))
        refused(403, lambda: comment("ours?", "urn:li:organization:1"))
