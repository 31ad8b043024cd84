"""pywa as the business: its client sends through the sandbox, its server takes the webhooks.

Meta shakes hands with the address of a webhook. The sandbox has no dashboard in which somebody enters
one, so the same handshake goes to pywa's server and to the hub, and both have to answer alike.
"""

import logging
import threading
import urllib.parse

import flask
import httpx
import pywa
import werkzeug.serving
from pywa import errors
from pywa.types import MessageStatusType

from . import meta
from .stage import VERIFY_TOKEN, WHATSAPP, Recorder, call, check, same, true, within

NUMBER = "205612348001122"
PHONE = "4915112345678"
PATH = "/api/webhooks/whatsapp"


def run(stage):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    logging.getLogger("pywa").setLevel(logging.CRITICAL)
    scope = "whatsapp_business_management,whatsapp_business_messaging"
    token = meta.sign_in(stage, WHATSAPP, scope, page=NUMBER)
    server = flask.Flask("certify")
    # Meta's host, and nothing else, is the sandbox.
    session = httpx.Client(trust_env=False, event_hooks={"request": [lambda request: _redirect(request, stage)]})
    client = pywa.WhatsApp(
        NUMBER, token, session=session, server=server, webhook_endpoint=PATH, verify_token=VERIFY_TOKEN,
        app_id=WHATSAPP[0], app_secret=WHATSAPP[1], api_version=26.0, filter_updates=True,
    )
    messages, statuses = [], []
    client.on_message(lambda _, message: messages.append(message))
    client.on_message_status(lambda _, status: statuses.append(status))
    running = werkzeug.serving.make_server("127.0.0.1", 0, server, threaded=True)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    there = f"http://127.0.0.1:{running.server_port}"
    try:
        _checks(stage, client, there, messages, statuses)
    finally:
        running.shutdown()


def _redirect(request, stage):
    base = httpx.URL(stage.sandbox)
    request.url = request.url.copy_with(scheme=base.scheme, host=base.host, port=base.port)
    request.headers["Host"] = base.netloc.decode()


def _checks(stage, client, there, messages, statuses):
    with check("whatsapp: the number is one that pywa knows"):
        number = client.get_business_phone_number()
        same("the number's id", number.id, NUMBER)
        true("it has no name", number.verified_name)
    with check("whatsapp: the handshake is answered alike by pywa and by the hub"):
        for asked, word in ((VERIFY_TOKEN, "right"), ("wrong", "wrong")):
            query = urllib.parse.urlencode(
                {"hub.mode": "subscribe", "hub.verify_token": asked, "hub.challenge": "1158201444"})
            theirs = call("GET", f"{there}{PATH}?{query}")
            ours = call("GET", f"{stage.hub}{PATH}?{query}")
            same(f"the hub's status for the {word} token", ours[0], theirs[0])
            if asked == VERIFY_TOKEN:
                same("the hub's answer", ours[2], theirs[2])
    with check("whatsapp: pywa takes a customer's message, signature and all"):
        stage.deliver_to(there)
        wamid, status = stage.customer("whatsapp", PHONE, "Habt ihr Größe 42/43? ☕", NUMBER)
        same("the answer of pywa's server", status, 200)
        message = within(5, "the handler was called", lambda: messages and messages[0])
        same("the message", (message.id, message.text, message.from_user.wa_id, message.from_user.name),
             (wamid, "Habt ihr Größe 42/43? ☕", PHONE, "Mira Vogel"))
        same("whose number it came to", message.metadata.phone_number_id, NUMBER)
    with check("whatsapp: pywa refuses what another secret signed, or what was changed on the way"):
        recorder = Recorder()
        stage.deliver_to(recorder.base)
        stage.customer("whatsapp", PHONE, "as it was", NUMBER)
        headers, raw = recorder.next(lambda _, raw: b"as it was" in raw)
        kept = {"x-hub-signature-256": headers["x-hub-signature-256"]}
        changed = raw.replace(b"as it was", b"as it is.")
        for body, expected in ((changed, 403), (raw, 200)):
            for name, base in (("pywa", there), ("the hub", stage.hub)):
                status = call("POST", f"{base}{PATH}", body, headers=kept)[0]
                # To the platform anything but 2xx is a refusal.
                true(f"{name} answered {status} to a body that is {expected}", (status < 300) == (expected == 200))
    with check("whatsapp: send_message gives an id, and its statuses come in order"):
        stage.deliver_to(there)
        sent = client.send_message(PHONE, "Ja, drei Stück.", tracker="reference-1")
        true("there is no id", sent.id.startswith("wamid."))
        same("what the sandbox kept", [one["text"] for one in stage.sent("whatsapp")
             if one["platformMessageId"] == sent.id], ["Ja, drei Stück."])
        of_it = lambda: [one for one in statuses if one.id == sent.id]  # noqa: E731
        within(10, "the third status", lambda: len(of_it()) >= 3)
        same("the statuses", [one.status for one in of_it()],
             [MessageStatusType.SENT, MessageStatusType.DELIVERED, MessageStatusType.READ])
        same("the reference", {one.tracker for one in of_it()}, {"reference-1"})
    with check("whatsapp: a failure that comes later is pywa's error of that number"):
        # Read from the raw update: as documented, a failure has no `contacts`, which pywa 4.5's status has to have.
        raw = []
        client.on_raw_update(lambda _, update: raw.append(update))
        call("POST", f"{stage.sandbox}/control/whatsapp/failures", {"code": 131047})
        sent = client.send_message(PHONE, "too late")

        def failure():
            values = [update["entry"][0]["changes"][0]["value"] for update in raw]
            return next((one for value in values for one in value.get("statuses", []) if one["id"] == sent.id), None)

        failed = within(10, "the failure", failure)
        same("the status", failed["status"], MessageStatusType.FAILED.value)
        same("the error", type(errors.WhatsAppError.from_dict(failed["errors"][0])), errors.ReEngagementMessage)
    with check("whatsapp: a refusal at once is pywa's error of that number"):
        call("PUT", f"{stage.sandbox}/control/faults",
             {"platform": "whatsapp", "op": "send", "mode": "status", "status": 429, "times": 1})
        try:
            client.send_message(PHONE, "too fast")
        except errors.WhatsAppError as refusal:
            same("the error", (type(refusal), refusal.code), (errors.RateLimitHit, 130429))
        else:
            raise AssertionError("it was taken")
    with check("whatsapp: a message is marked as read"):
        true("it is not", client.mark_message_as_read(messages[0].id))
