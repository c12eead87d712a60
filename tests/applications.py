"""A whole application in memory, with real tokens."""

from __future__ import annotations

import os
from typing import Any

import jwt
from twisted.internet.task import Clock
from twisted.web.server import Site

from stompauth.application import StompAuth
from stompauth.authorization.rules import Rules, allow
from stompauth.broker.simple import SimpleBroker
from stompauth.identity.keys import StaticKey
from stompauth.identity.verifier import JWTVerifier
from stompauth.settings import Limits, WebSocketSettings
from stompauth.stomp.decoder import DecoderLimits, FrameDecoder
from stompauth.stomp.encoder import encode
from stompauth.stomp.frame import Frame
from stompauth.testing import MemoryServer
from stompauth.tickets.memory import MemoryTicketStore
from tests.wire import WebSocket, post_token

NOW = 1_750_000_000.0
ISSUER = "https://id.example.com/"
AUDIENCE = "chat"
SECRET = b"0123456789abcdef0123456789abcdef"

#: Whether the applications of the tests use fast I/O: both have to pass all of them.
FAST_IO = os.environ.get("TEST_FAST_IO", "1") != "0"

RULES = (
    allow("subscribe", "send", "/topic/rooms/{room}", claims={"rooms": "{room}"}),
    allow("subscribe", "send", "/queue/work/**"),
    allow("subscribe", "send", "/user/queue/private"),
    allow("send", "/user/{name}/queue/private", authorities=["chat"]),
)


def token(user: str = "alice", *, secret: bytes = SECRET, **claims: Any) -> str:
    """A token as the identity provider of the tests makes it, good for an hour from NOW."""
    return jwt.encode(
        {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user,
            "iat": int(NOW),
            "exp": int(NOW) + 3600,
            "scope": "chat",
            "rooms": ["lobby"],
            **claims,
        },
        secret,
        algorithm="HS256",
    )


class Application:
    """An application behind a site of its own, and clients of it."""

    def __init__(self, **settings: Any) -> None:
        clock = settings.pop("clock", None)
        self.clock = clock or Clock()
        if clock is None:
            self.clock.advance(NOW)
        limits = settings.pop("limits", None) or Limits()
        self.tickets = settings.pop("tickets", MemoryTicketStore(self.clock))
        self.verifier = settings.pop("verifier", None) or JWTVerifier(
            StaticKey.hmac(SECRET),
            algorithms=["HS256"],
            issuer=ISSUER,
            audience=AUDIENCE,
            clock=self.clock,
        )
        self.broker = settings.pop("broker", None) or SimpleBroker(limits=limits, clock=self.clock)
        self.stompauth = StompAuth(
            verifier=self.verifier,
            tickets=self.tickets,
            broker=self.broker,
            rules=settings.pop("rules", None) or Rules(RULES),
            origins=settings.pop("origins", ["https://chat.example.com"]),
            clock=self.clock,
            limits=limits,
            # The clients here answer no ping while the clock is turned.
            websocket=settings.pop("websocket", None) or WebSocketSettings(ping=0),
            fast_io=settings.pop("fast_io", FAST_IO),
            **settings,
        )
        self.server = MemoryServer(self.stompauth, self.clock)
        self.site: Site = self.server.site

    def ticket(self, user: str = "alice", **claims: Any) -> str:
        """Trade a token for a ticket."""
        ticket: str = post_token(self.site, token(user, **claims)).json["ticket"]
        return ticket

    def open(self, user: str = "alice", **arguments: Any) -> StompClient:
        """Open a WebSocket with a fresh ticket."""
        return StompClient(WebSocket(self.site, f"/stomp?ticket={self.ticket(user)}", **arguments))

    def connect(
        self, user: str = "alice", version: str = "1.2", claims: Any = None, **arguments: Any
    ) -> StompClient:
        """Open a WebSocket and a STOMP session on it."""
        client = self.open(user, **arguments)
        client.connect(token(user, **(claims or {})), version)
        return client


class StompClient:
    """STOMP on a client's WebSocket.

    :ivar connected: the CONNECTED frame, once :meth:`connect` has it.
    """

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.version = "1.2"
        self.connected: Frame | None = None
        self._decoder = FrameDecoder(DecoderLimits(0, 0, 0))
        self._pending: list[Frame] = []

    def connect(self, jwt_: str, version: str = "1.2", **headers: str) -> None:
        """Send CONNECT, and take CONNECTED if it comes."""
        self.version = self._decoder.version = version
        headers = {"heart-beat": "0,0", **{n.replace("_", "-"): v for n, v in headers.items()}}
        self.send("CONNECT", accept_version=version, Authorization=f"Bearer {jwt_}", **headers)
        frames = self.frames()
        if frames and frames[0].command == "CONNECTED":
            self.connected = frames.pop(0)
        self._pending = frames

    def send(self, command: str, body: bytes = b"", **headers: str) -> None:
        """Send a frame; ``_`` in a header's name stands for ``-``."""
        frame = Frame(command, {n.replace("_", "-"): v for n, v in headers.items()}, body)
        data = encode(frame, self.version)
        try:
            self.websocket.send(data.decode())
        except UnicodeDecodeError:
            self.websocket.send(data)

    def frames(self) -> list[Frame]:
        """The frames since the last call; heart-beats are passed over."""
        frames, self._pending = self._pending, []
        for message in self.websocket.take():
            self._decoder.feed(message.encode() if isinstance(message, str) else message)
            while (frame := self._decoder.next_frame()) is not None:
                frames.append(frame)
        return frames

    def frame(self) -> Frame:
        """The one frame that has come since the last call."""
        (frame,) = self.frames()
        return frame

    @property
    def close_code(self) -> int | None:
        """The status of the server's close frame."""
        self.websocket.read()
        return self.websocket.close_code
