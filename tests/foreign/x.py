"""tweepy and Authlib as an app on X: PKCE, tokens that rotate, direct messages, signed webhooks."""

import base64
import hashlib
import hmac
import json
import os
import time
import urllib.parse

import tweepy
from authlib.common.security import generate_token
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session

from .stage import X, X_CONSUMER_SECRET, Recorder, Sent, check, location, same, true, within

REDIRECT = "http://127.0.0.1:9/api/oauth/callback/twitter"
SCOPES = ["tweet.read", "users.read", "dm.read", "dm.write", "offline.access"]
HOME = "1700000000000000101"
CUSTOMER = "1700000000000000777"


def run(stage):
    # Addresses of this machine have no TLS; the libraries want to be told that this is meant.
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    # The platform hands out its scopes in an order of its own.
    os.environ["OAUTHLIB_RELAX_TOKEN_SCOPE"] = "1"
    holder = []
    with check("x: tweepy's PKCE flow (requests-oauthlib) ends with a token"):
        handler = tweepy.OAuth2UserHandler(
            client_id=X[0], client_secret=X[1], redirect_uri=REDIRECT, scope=SCOPES)
        for host in ("https://api.twitter.com", "https://twitter.com"):
            handler.mount(host, Sent(stage.sandbox))
        page = urllib.parse.urlsplit(handler.get_authorization_url())
        back, _ = location(f"{stage.sandbox}{page.path}?{page.query}")
        token = handler.fetch_token(back)
        same("type and life", (token["token_type"].lower(), token["expires_in"]), ("bearer", 7200))
        same("what was granted", sorted(token["scope"]), sorted(SCOPES))
        holder.append(token["access_token"])
    _authlib(stage)
    if holder:
        _tweepy(stage, holder[0])


def _authlib(stage):
    session = OAuth2Session(*X, scope=" ".join(SCOPES), redirect_uri=REDIRECT, code_challenge_method="S256")
    there = f"{stage.sandbox}/2/oauth2/token"

    def code(verifier):
        url, state = session.create_authorization_url(f"{stage.sandbox}/i/oauth2/authorize", code_verifier=verifier)
        back, given = location(url)
        same("the state", given["state"], state)
        return back

    with check("x: Authlib's PKCE flow, a refresh, and the end of a used refresh token"):
        verifier = generate_token(64)
        first = session.fetch_token(there, authorization_response=code(verifier), code_verifier=verifier)
        true("no refresh token", first["refresh_token"])
        second = session.refresh_token(there, refresh_token=first["refresh_token"])
        true("the refresh token did not rotate", second["refresh_token"] != first["refresh_token"])
        for used in (first, second):
            # Using one again ends the family, its successor too.
            try:
                session.refresh_token(there, refresh_token=used["refresh_token"])
            except OAuthError as refusal:
                same("the refusal", refusal.error, "invalid_request")
            else:
                raise AssertionError("a refresh token worked twice")
    with check("x: a wrong verifier is refused in OAuth's words"):
        try:
            session.fetch_token(there, authorization_response=code(generate_token(64)), code_verifier=generate_token(64))
        except OAuthError as refusal:
            same("the refusal", refusal.error, "invalid_request")
        else:
            raise AssertionError("a wrong verifier was taken")


def _tweepy(stage, token):
    client = tweepy.Client(token)
    client.session.mount("https://api.twitter.com", Sent(stage.sandbox))
    with check("x: users/me with the OAuth 2 token"):
        me = client.get_me(user_auth=False).data
        same("the user", (str(me.id), me.username), (HOME, "northwind_desk"))
    with check("x: a direct message through tweepy, and the conversation it reads back"):
        stage.customer("twitter", CUSTOMER, "Is 1 < 2 & 3?", HOME)
        sent = client.create_direct_message(participant_id=CUSTOMER, text="Yes & no", user_auth=False).data
        same("the conversation", sent["dm_conversation_id"], f"{HOME}-{CUSTOMER}")
        kept = [one["text"] for one in stage.sent("twitter") if one["platformMessageId"] == sent["dm_event_id"]]
        same("what the sandbox kept", kept, ["Yes & no"])
        page = client.get_direct_message_events(
            participant_id=CUSTOMER, user_auth=False, expansions=["sender_id"],
            dm_event_fields=["id", "text", "event_type", "created_at", "sender_id", "dm_conversation_id"])
        same("what was exchanged, newest first", [(str(one.sender_id), one.text) for one in page.data],
             [(HOME, "Yes &amp; no"), (CUSTOMER, "Is 1 &lt; 2 &amp; 3?")])
        true("the time is not one", page.data[0].created_at.tzinfo)
        same("who wrote", {str(user.id) for user in page.includes["users"]}, {HOME, CUSTOMER})
    with check("x: tweepy pages through them by the tokens the answers carry"):
        pages = tweepy.Paginator(
            client.get_direct_message_events, participant_id=CUSTOMER, user_auth=False, max_results=1)
        same("events", len(list(pages.flatten(limit=10))), 2)
    with check("x: refusals are the exceptions tweepy has for them"):
        stranger = tweepy.Client("XAnobody")
        stranger.session.mount("https://api.twitter.com", Sent(stage.sandbox))
        for error, attempt in (
            (tweepy.Unauthorized, lambda: stranger.get_me(user_auth=False)),
            (tweepy.BadRequest, lambda: client.create_direct_message(
                participant_id=CUSTOMER, text="x" * 10_001, user_auth=False)),
        ):
            try:
                attempt()
            except error:
                continue
            raise AssertionError(f"no {error.__name__}")
    with check("x: the limit is tweepy's TooManyRequests, with the moment it ends"):
        try:
            for number in range(20):
                client.create_direct_message(participant_id=CUSTOMER, text=f"fast {number}", user_auth=False)
        except tweepy.TooManyRequests as refusal:
            wait = refusal.reset_time - time.time()
            true(f"it ends in {wait:.0f} s", 0 < wait <= 900)
        else:
            raise AssertionError("twenty sends were taken in one window")
    with check("x: webhooks are signed over their bytes, in base64"):
        recorder = Recorder()
        stage.deliver_to(recorder.base)
        within(10, "the webhook", lambda: _signed(stage, recorder))


def _signed(stage, recorder):
    stage.customer("twitter", CUSTOMER, "signed?", HOME)
    headers, raw = recorder.next(lambda _, raw: b"signed?" in raw)
    mac = hmac.new(X_CONSUMER_SECRET.encode(), raw, hashlib.sha256).digest()
    same("the signature", headers["x-twitter-webhooks-signature"], "sha256=" + base64.b64encode(mac).decode())
    return json.loads(raw)
