"""Socket.IO's own clients at the hub: Python's, and the one for JavaScript that the web client uses.

What a customer's message causes is heard once by each, in the contract's order.
"""

import json
import pathlib
import queue
import subprocess
import threading

import socketio

from .stage import Differs, call, check, same, true

# A customer's message, in the order in which clients are told.
EXPECTED = ["new_message", "unread_count_update", "conversation_update"]
DEMO = ("demo@hub.local", "demo-demo")
BOT = "7100000001"
# How long a second telling may take to come.
SILENCE = 1.5


class PythonClient:
    """python-socketio, over WebSocket."""

    name = "python-socketio"

    def __init__(self, hub, token):
        self.heard = queue.Queue()
        client = self.client = socketio.Client(reconnection=False)
        client.on("*", lambda event, data=None: self.heard.put((event, data)))
        client.on("disconnect", lambda *_: self.heard.put(("disconnect", None)))
        client.connect(hub, transports=["websocket"], wait_timeout=10)
        client.emit("authenticate", {"token": token})

    def end(self):
        self.client.disconnect()


class NodeClient:
    """socket.io-client 4.8.1, in a process of its own."""

    name = "socket.io-client"

    def __init__(self, hub, token):
        self.heard = queue.Queue()
        script = pathlib.Path(__file__).with_name("socket-client.mjs")
        self.process = subprocess.Popen(
            ["node", script, hub], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(token + "\n")
        self.process.stdin.flush()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            self.heard.put(tuple(json.loads(line)))

    def end(self):
        self.process.terminate()
        self.process.wait(10)


def until_silent(client, first=15):
    """What a client hears until nothing comes for a while."""
    heard, wait = [], first
    while True:
        try:
            heard.append(client.heard.get(timeout=wait))
            wait = SILENCE
        except queue.Empty:
            return heard


def run(stage):
    token = stage.person(*DEMO)
    clients = []
    for kind in (PythonClient, NodeClient):
        with check(f"live: {kind.name} connects over WebSocket and authenticates"):
            client = kind(stage.hub, token)
            clients.append(client)
            heard = until_silent(client)
            same("what it hears", [event for event, _ in heard], ["authenticated"])
            same("who it is", heard[0][1]["email"], DEMO[0])
    try:
        _told(stage, token, clients)
    finally:
        for client in clients:
            client.end()
    for kind in (PythonClient, NodeClient):
        with check(f"live: {kind.name} is told of a bad token, put out, and does not come back"):
            client = kind(stage.hub, "not.a.token")
            heard = until_silent(client)
            client.end()
            same("what it hears", [event for event, _ in heard], ["auth_error", "disconnect"])
            same("the words", heard[0][1], {"message": "Invalid access token"})


def _told(stage, token, clients):
    conversation = None
    for turn, (sender, text) in enumerate([("880001", "Is the blue one in stock? ☕"), ("880001", "Or the red one?")]):
        stage.deliver_to(stage.hub)
        _, status = stage.customer("telegram", sender, text, BOT, "Mira of the sockets")
        what = ("a new customer's", "the next")[turn]
        for client in clients:
            with check(f"live: {client.name} hears of {what} message, once each and in order"):
                same("the hub's answer to the webhook", status, 200)
                heard = until_silent(client)
                same("the events", [event for event, _ in heard], EXPECTED)
                message, unread, update = (data for _, data in heard)
                same("the text", message["message"]["content"], text)
                conversation = message["conversation"]["id"]
                same("the message's conversation", message["message"]["conversationId"], conversation)
                same("the update's", (update["conversation"]["id"], update["conversation"]["unreadCount"]),
                     (conversation, turn + 1))
                same("the total", unread["totalUnread"], sum(unread["unreadCounts"].values()))
                true("a time is missing", all(data["timestamp"] for _, data in heard))
    if not conversation:
        raise Differs("there is no conversation to answer in")
    status, _, _ = call("POST", f"{stage.hub}/api/messages/{conversation}/send", {"content": "Three left."}, token)
    for client in clients:
        with check(f"live: {client.name} is not told our own answer as a new message"):
            same("the status of the send", status, 201)
            events = {event for event, _ in until_silent(client)}
            true(f"it hears {sorted(events)}", "conversation_update" in events and "new_message" not in events)
