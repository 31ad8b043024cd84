"""Meta's own Python SDK reads Pages with what the sandbox's login gave; webhooks are verified by hand.

`sign_in` is what a browser and a server do to get a token; WhatsApp's checks begin with it too.
"""

import hashlib
import hmac
import json
import urllib.parse

from facebook_business.adobjects.page import Page
from facebook_business.adobjects.user import User
from facebook_business.api import FacebookAdsApi
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession

from .stage import FACEBOOK, Recorder, Sent, call, check, location, same, true

VERSION = "v26.0"
PAGE = "104857600112233"
PSID = "7214365098123401"
REDIRECT = "http://127.0.0.1:9/back"


def sign_in(stage, app, scope, **choice):
    """A person's token, by the dialog and the code it gives."""
    client, secret = app
    asked = {"client_id": client, "redirect_uri": REDIRECT, "response_type": "code", "scope": scope, "state": "s-1"}
    _, back = location(f"{stage.sandbox}/{VERSION}/dialog/oauth?{urllib.parse.urlencode(asked | choice)}")
    same("the state that came back", back.get("state"), "s-1")
    asked = {"client_id": client, "client_secret": secret, "redirect_uri": REDIRECT, "code": back["code"]}
    status, _, body = call("GET", f"{stage.sandbox}/{VERSION}/oauth/access_token?{urllib.parse.urlencode(asked)}")
    same(f"the status of the exchange ({body})", status, 200)
    return body["access_token"]


def signed(secret, headers, raw):
    """Whether a webhook carries Meta's signature, by Python's own HMAC."""
    expected = "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, headers["x-hub-signature-256"] or "")


def api(stage, app, token):
    """The SDK with a token; it proves the app's secret with every call."""
    session = FacebookSession(*app, token)
    session.requests.mount(FacebookSession.GRAPH, Sent(stage.sandbox))
    return FacebookAdsApi(session, api_version=VERSION)


def run(stage):
    pages = []
    with check("meta: /me and /me/accounts are what facebook-business reads"):
        token = sign_in(stage, FACEBOOK, "pages_messaging,pages_show_list")
        person = User("me", api=api(stage, FACEBOOK, token))
        true("the person has no name", person.api_get(fields=["id", "name"])["name"])
        pages += person.get_accounts(fields=["id", "name", "access_token"])
        same("the Pages", [page["id"] for page in pages], [PAGE])
    with check("meta: another app's secret proves nothing, and the SDK says so"):
        try:
            User("me", api=api(stage, (FACEBOOK[0], "0" * 32), token)).api_get(fields=["id"])
        except FacebookRequestError as refusal:
            same("the error's code and type", (refusal.api_error_code(), refusal.api_error_type()),
                 (100, "OAuthException"))
            true("it is called transient", not refusal.api_transient_error())
        else:
            raise AssertionError("a wrong appsecret_proof was taken")
    with check("meta: a Page subscribes, sends, and lists its conversations through the SDK"):
        with_page = api(stage, FACEBOOK, pages[0]["access_token"])
        page = Page(PAGE, api=with_page)
        page.create_subscribed_app(params={"subscribed_fields": ["messages", "message_echoes"]})
        apps = list(page.get_subscribed_apps())
        same("the fields", apps[0]["subscribed_fields"], ["messages", "message_echoes"])
        _, status = stage.customer("facebook", PSID, "Hello?", PAGE)
        answer = with_page.call("POST", (PAGE, "messages"), params={
            "recipient": {"id": PSID}, "messaging_type": "RESPONSE", "message": {"text": "Grüße ☕"}}).json()
        same("whom it went to", answer["recipient_id"], PSID)
        kept = [one["text"] for one in stage.sent("facebook") if one["platformMessageId"] == answer["message_id"]]
        same("what the sandbox kept", kept, ["Grüße ☕"])
        threads = list(page.get_conversations(fields=["participants", "updated_time", "message_count"]))
        same("messages of the one thread", [one["message_count"] for one in threads], [2])
    with check("meta: webhooks are signed over their bytes"):
        recorder = Recorder()
        stage.deliver_to(recorder.base)
        mid, _ = stage.customer("facebook", PSID, "Größe 42/43?", PAGE)
        headers, raw = recorder.next(lambda _, raw: mid.encode() in raw)
        true("the signature is not of these bytes", signed(FACEBOOK[1], headers, raw))
        again = json.dumps(json.loads(raw)).encode()
        true("a body that was parsed and written again still verifies", not signed(FACEBOOK[1], headers, again))
        item = json.loads(raw)["entry"][0]["messaging"][0]
        same("the text", item["message"]["text"], "Größe 42/43?")
