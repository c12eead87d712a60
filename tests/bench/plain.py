"""What the product is compared with: a plain Autobahn server, written in the obvious way.

``python -m tests.bench.plain`` speaks the same protocol: tickets for tokens, CONNECT with a token,
topics, queues with acknowledgements, receipts. It has no rules, no interceptors, no limits and no
revocation. Each delivery is a frame that is built, encoded and sent by Autobahn.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.bench.interceptors import watch_turns
from tests.bench.servers import AUDIENCE, ISSUER, SECRET


@dataclass
class Frame:
    """A STOMP frame."""

    command: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


def parse(text: str) -> Frame:
    """Read a frame."""
    head, _, body = text.rstrip("\n").partition("\n\n")
    command, *lines = head.lstrip("\n").split("\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(unescape(name), unescape(value))
    return Frame(command, headers, body.removesuffix("\0"))


def write(frame: Frame) -> str:
    """Write a frame."""
    lines = [frame.command]
    lines += [f"{escape(name)}:{escape(value)}" for name, value in frame.headers.items()]
    return "\n".join(lines) + "\n\n" + frame.body + "\0"


def escape(text: str) -> str:
    """Escape what a header cannot hold."""
    text = text.replace("\\", "\\\\").replace("\r", "\\r")
    return text.replace("\n", "\\n").replace(":", "\\c")


def unescape(text: str) -> str:
    """Undo that."""
    if "\\" not in text:
        return text
    text = text.replace("\\c", ":").replace("\\n", "\n").replace("\\r", "\r")
    return text.replace("\\\\", "\\")


def verify(token: str) -> dict[str, Any]:
    """The claims of a token."""
    claims: dict[str, Any] = jwt.decode(
        token, SECRET, algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE
    )
    return claims


class Hub:
    """Who has subscribed to what, and the tickets.

    :param is_open: whether anybody is let in, with neither ticket nor token.
    """

    def __init__(self, is_open: bool) -> None:
        self.is_open = is_open
        self.topics: dict[str, dict[tuple[PlainProtocol, str], str]] = {}
        self.tickets: dict[str, tuple[str, float]] = {}
        self.waiting: dict[str, list[Frame]] = {}
        self._messages = 0

    def issue(self, token: str) -> str:
        """A ticket for a token."""
        ticket = secrets.token_urlsafe(32)
        self.tickets[ticket] = (verify(token)["sub"], time.time() + 30)
        return ticket

    def redeem(self, ticket: str) -> str | None:
        """Whose ticket it is; each is good once."""
        subject, expires = self.tickets.pop(ticket, ("", 0.0))
        return subject if expires > time.time() else None

    def send(self, frame: Frame) -> None:
        """Deliver a message."""
        destination = frame.headers["destination"]
        self._messages += 1
        headers = {
            **frame.headers,
            "destination": destination,
            "message-id": str(self._messages),
            "content-length": str(len(frame.body.encode())),
        }
        headers.pop("receipt", None)
        subscribers = self.topics.get(destination, {})
        if destination.startswith("/queue/"):
            if not subscribers:
                self.waiting.setdefault(destination, []).append(frame)
                return
            # To the one that has waited longest.
            key = next(iter(subscribers))
            subscribers[key] = subscribers.pop(key)
            chosen = [key]
        else:
            chosen = list(subscribers)
        for protocol, subscription in chosen:
            message = Frame("MESSAGE", {**headers, "subscription": subscription}, frame.body)
            if subscribers[protocol, subscription] != "auto":
                message.headers["ack"] = message.headers["message-id"]
                protocol.unacknowledged[message.headers["ack"]] = message
            protocol.write(message)


class PlainProtocol(WebSocketServerProtocol):
    """A client."""

    def onConnect(self, request: Any) -> str | None:
        """Let in who has a ticket."""
        ticket = request.params.get("ticket", [""])[0]
        self.subject = self.factory.hub.redeem(ticket)
        if self.subject is None and not self.factory.hub.is_open:
            raise ConnectionDeny(401, "no ticket")
        self.is_connected = False
        self.subscriptions: dict[str, str] = {}
        self.unacknowledged: dict[str, Frame] = {}
        return "v12.stomp" if "v12.stomp" in request.protocols else None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Handle a frame; a message holds one."""
        frame = parse(payload.decode())
        hub = self.factory.hub
        headers = frame.headers
        if frame.command == "CONNECT":
            if not hub.is_open:
                token = headers["Authorization"].removeprefix("Bearer ")
                if verify(token)["sub"] != self.subject:
                    self.sendClose(4409)
                    return
            self.is_connected = True
            self.write(Frame("CONNECTED", {"version": "1.2", "heart-beat": "0,0"}))
        elif not self.is_connected:
            self.sendClose(4401)
        elif frame.command == "SEND":
            hub.send(frame)
        elif frame.command == "SUBSCRIBE":
            destination = headers["destination"]
            self.subscriptions[headers["id"]] = destination
            subscribers = hub.topics.setdefault(destination, {})
            subscribers[self, headers["id"]] = headers.get("ack", "auto")
            for message in hub.waiting.pop(destination, ()):
                hub.send(message)
        elif frame.command == "UNSUBSCRIBE":
            self._unsubscribe(headers["id"])
        elif frame.command == "ACK":
            del self.unacknowledged[headers["id"]]
        if "receipt" in headers:
            self.write(Frame("RECEIPT", {"receipt-id": headers["receipt"]}))
        if frame.command == "DISCONNECT":
            self.sendClose(1000)

    def write(self, frame: Frame) -> None:
        """Send a frame."""
        self.sendMessage(write(frame).encode())

    def _unsubscribe(self, subscription: str) -> None:
        destination = self.subscriptions.pop(subscription)
        subscribers = self.factory.hub.topics[destination]
        del subscribers[self, subscription]
        if not subscribers:
            del self.factory.hub.topics[destination]

    def onClose(self, was_clean: bool, code: int | None, reason: str | None) -> None:
        """Forget the client."""
        for subscription in list(getattr(self, "subscriptions", ())):
            self._unsubscribe(subscription)


class Tickets(Resource):
    """Gives tickets for tokens."""

    isLeaf = True

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._hub = hub

    def render_POST(self, request: Any) -> bytes:
        """Answer with a ticket."""
        token = request.getHeader("Authorization").removeprefix("Bearer ")
        request.setHeader("Content-Type", "application/json")
        return json.dumps({"ticket": self._hub.issue(token), "expires_in": 30}).encode()


class Front(Protocol):
    """Finds out from the first octets what a connection is for."""

    transport: Any

    def __init__(self, web: Factory, websocket: Factory) -> None:
        self._web = web
        self._websocket = websocket

    def dataReceived(self, data: bytes) -> None:
        """Hand the connection on."""
        factory = self._web if data.startswith(b"POST") else self._websocket
        protocol: Any = factory.buildProtocol(self.transport.getPeer())
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)
        protocol.dataReceived(data)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plain")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--open", action="store_true", help="let in anybody")
    arguments = parser.parse_args()
    loop: Any = reactor
    hub = Hub(arguments.open)
    websocket: Any = WebSocketServerFactory("ws://127.0.0.1/stomp", protocols=["v12.stomp"])
    websocket.protocol = PlainProtocol
    websocket.hub = hub
    web: Any = Site(Tickets(hub))
    web.log = lambda request: None
    front: Any = Factory.forProtocol(lambda: Front(web, websocket))
    web.startFactory()
    websocket.startFactory()
    if Path("turns").exists():
        watch_turns("turns")
    port = loop.listenTCP(arguments.port, front, backlog=512, interface="127.0.0.1")
    sys.stdout.write(f"listening on 127.0.0.1:{port.getHost().port}\n")
    sys.stdout.flush()
    loop.run()


if __name__ == "__main__":
    main()
