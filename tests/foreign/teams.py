"""Microsoft's own sign-in library, and the transport of its Graph SDKs, at the sandbox.

MSAL asks a discovery document for its addresses. The hub does not, so the sandbox has none, and this file
answers it with Microsoft's.
"""

import asyncio
import json
import time
import urllib.parse

import httpx
import msal
import requests
from msgraph_core import GraphClientFactory

from .stage import TEAMS, Sent, call, check, location, same, true

TENANT = "consumers"
LOGIN = "https://login.microsoftonline.com"
GRAPH = "https://graph.microsoft.com/v1.0"
REDIRECT = "http://localhost:9/api/oauth/callback/teams"
SCOPES = ["User.Read", "Chat.Read", "Chat.ReadWrite", "ChatMessage.Send"]
PERSON = "a1a1a1a1-0000-4000-8000-000000000001"
CUSTOMER = "c3c3c3c3-0000-4000-8000-000000000077"


class SignIn(Sent):
    """Microsoft's sign-in, but for the discovery document."""

    def send(self, request, *arguments, **named):
        if "openid-configuration" not in request.url:
            return super().send(request, *arguments, **named)
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = 200, request, request.url
        there = f"{LOGIN}/{TENANT}"
        answer._content = json.dumps({
            "issuer": f"{there}/v2.0", "authorization_endpoint": f"{there}/oauth2/v2.0/authorize",
            "token_endpoint": f"{there}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{there}/oauth2/v2.0/devicecode"}).encode()
        return answer


class Transport(httpx.AsyncBaseTransport):
    """Graph's host is the sandbox."""

    def __init__(self, base):
        self.base, self.inner = httpx.URL(base), httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request):
        request.url = request.url.copy_with(scheme="http", host=self.base.host, port=self.base.port)
        request.headers["Host"] = self.base.netloc.decode()
        return await self.inner.handle_async_request(request)


def run(stage):
    session = requests.Session()
    session.mount(LOGIN, SignIn(stage.sandbox))
    app = msal.ConfidentialClientApplication(
        TEAMS[0], client_credential=TEAMS[1], authority=f"{LOGIN}/{TENANT}", instance_discovery=False,
        http_client=session)
    tokens = {}

    def begin():
        flow = app.initiate_auth_code_flow(SCOPES, redirect_uri=REDIRECT)
        page = urllib.parse.urlsplit(flow["auth_uri"])
        return flow, location(f"{stage.sandbox}{page.path}?{page.query}")[1]

    with check("teams: MSAL's code flow with PKCE ends with tokens"):
        tokens |= app.acquire_token_by_auth_code_flow(*begin())
        true(f"it ended with {tokens}", tokens.get("access_token") and tokens.get("refresh_token"))
    with check("teams: MSAL renews, and the refresh token rotates"):
        again = app.acquire_token_by_refresh_token(tokens["refresh_token"], SCOPES)
        true(f"it ended with {again}", again.get("access_token"))
        true("it did not rotate", again["refresh_token"] != tokens["refresh_token"])
    with check("teams: refusals have the words and numbers MSAL passes on"):
        flow, back = begin()
        wrong = app.acquire_token_by_auth_code_flow({**flow, "code_verifier": "x" * 43}, back)
        same("a wrong verifier", (wrong.get("error"), wrong.get("error_codes")), ("invalid_grant", [501481]))
        ended = app.acquire_token_by_refresh_token("nobody's", SCOPES)
        same("an unknown refresh token's error", ended.get("error"), "invalid_grant")
    asyncio.run(_graph(stage, tokens["access_token"]))


async def _graph(stage, token):
    inner = httpx.AsyncClient(
        transport=Transport(stage.sandbox), base_url=GRAPH, headers={"Authorization": f"Bearer {token}"})
    client = GraphClientFactory.create_with_default_middleware(client=inner)
    chat = None
    with check("teams: Graph's client reads who signed in"):
        me = (await client.get("/me")).json()
        same("the person", me["id"], PERSON)
    with check("teams: a message is sent and found in its chat"):
        stage.customer("teams", CUSTOMER, "Ist der Blaue da? ☕", PERSON)
        chats = (await client.get("/me/chats")).json()["value"]
        chat = next(one["id"] for one in chats if CUSTOMER in one["id"])
        sent = await client.post(f"/chats/{chat}/messages", json={"body": {"contentType": "text", "content": "Ja & nein"}})
        same("the status", sent.status_code, 201)
        messages = (await client.get(f"/chats/{chat}/messages")).json()["value"]
        same("what was exchanged, newest first", [one["from"]["user"]["id"] for one in messages], [PERSON, CUSTOMER])
        same("its id", messages[0]["id"], sent.json()["id"])
    with check("teams: the client's own retries wait as Retry-After says, and are then served"):
        call("PUT", f"{stage.sandbox}/control/faults", {
            "platform": "teams", "op": "fetch", "mode": "status", "status": 429, "retryAfter": 1, "times": 1})
        began = time.monotonic()
        # The middleware is only for requests that come with options, as those of the SDKs do.
        answer = await client.get(f"/chats/{chat}/messages", extensions={"kiota_request_options": {}})
        same("the status", answer.status_code, 200)
        true("it did not wait", time.monotonic() - began >= 0.9)
    with check("teams: no token is Graph's 401, with its words"):
        refused = await inner.get("/me", headers={"Authorization": "Bearer nobody"})
        same("the refusal", (refused.status_code, refused.json()["error"]["code"]), (401, "InvalidAuthenticationToken"))
    await inner.aclose()
