"""Servers in memory for the client: a whole one, and one that does what a test says."""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.application import StompAuth
from stompauth.authorization.rules import Rules, allow, deny
from stompauth.broker.simple import SimpleBroker
from stompauth.client.connector import connect
from stompauth.client.stomp_client import StompClient
from stompauth.errors import Disconnected, FrameRefused
from stompauth.stomp.decoder import DecoderLimits, FrameDecoder
from stompauth.stomp.encoder import encode
from stompauth.stomp.frame import Frame
from stompauth.testing import FakeVerifier, MemoryServer
from stompauth.tickets.memory import MemoryTicketStore
from tests.applications import NOW

RULES = (
    deny("subscribe", "send", "/topic/quiet/**", on_deny="notify"),
    allow("subscribe", "send", "/topic/rooms/{room}", claims={"rooms": "{room}"}),
    allow("subscribe", "send", "/queue/work/**"),
)


class ClientCase(SynchronousTestCase):
    """Has a server, and makes clients of it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.verifier = FakeVerifier(self.clock)
        self.serve()

    def serve(self, **settings: Any) -> None:
        """Set the server up, or anew with other settings."""
        self.application = StompAuth(
            verifier=self.verifier,
            tickets=MemoryTicketStore(self.clock),
            broker=SimpleBroker(clock=self.clock),
            clock=self.clock,
            **{"rules": Rules(RULES), "origins": [], **settings},
        )
        self.server = MemoryServer(self.application, self.clock)
        self.settings = self.server.settings
        self.addCleanup(self.server.close)

    def token(self, user: str = "alice", *rooms: str, lifetime: float = 3600) -> str:
        """A token for the lobby, or for these rooms."""
        return self.verifier.token(user, claims={"rooms": rooms or ["lobby"]}, lifetime=lifetime)

    def connecting(self, token: Any = None, **arguments: Any) -> Deferred[StompClient]:
        """Begin to connect; events go to ``ends`` and ``notices``."""
        self.ends: list[Disconnected] = []
        self.notices: list[FrameRefused] = []
        connecting = connect(
            self.clock,
            self.server.url,
            token or self.token,
            **{
                "settings": self.settings,
                "endpoints": self.server,
                "on_disconnect": self.ends.append,
                "on_notice": self.notices.append,
                **arguments,
            },
        )
        self.server.flush()
        return connecting

    def connect(self, token: Any = None, **arguments: Any) -> StompClient:
        """Connect."""
        return self.server.result_of(self.connecting(token, **arguments))

    def assert_fails(self, waiting: Deferred[Any], error: type[Exception], code: str) -> Any:
        """It has failed, or fails now, with this error and code; return the error."""
        raised = self.assertRaises(error, self.server.result_of, waiting)
        self.assertEqual(raised.code, code)
        return raised


class _ScriptedWebSocket(WebSocketServerProtocol):
    factory: Any

    def onConnect(self, request: Any) -> str:
        return "v12.stomp"

    def onOpen(self) -> None:
        self.factory.script.websocket = self

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        script = self.factory.script
        script.binary.append(isBinary)
        script.decoder.feed(payload)
        while (frame := script.decoder.next_frame()) is not None:
            script.frames.append(frame)
            if frame.command == "CONNECT" and script.connected is not None:
                script.send(Frame("CONNECTED", script.connected))


class ScriptedServer:
    """Gives any ticket and opens any WebSocket, and then does as it is told.

    :ivar connected: the headers of its CONNECTED; None for no answer.
    :ivar frames: what the client has sent.
    :ivar binary: for each of its WebSocket messages, whether it was binary.
    """

    def __init__(self, clock: Clock) -> None:
        self.connected: dict[str, str] | None = {"version": "1.2"}
        self.frames: list[Frame] = []
        self.binary: list[bool] = []
        self.decoder = FrameDecoder(DecoderLimits(0, 0, 0))
        self.websocket: Any = None
        self._websockets: Any = WebSocketServerFactory(reactor=clock)
        self._websockets.protocol = _ScriptedWebSocket
        self._websockets.setProtocolOptions(serveFlashSocketPolicy=False, closeHandshakeTimeout=0)
        self._websockets.script = self

    def send(self, frame: Frame) -> None:
        """Send a frame."""
        self.send_octets(encode(frame, "1.2"))

    def send_octets(self, octets: bytes) -> None:
        """Send what need not be a frame."""
        self.websocket.sendMessage(octets, isBinary=True)

    def buildProtocol(self, address: object) -> Protocol:
        """Make the protocol of a connection: for a ticket, or a WebSocket."""
        return _Chooser(self)


class _Chooser(Protocol):
    """Answers a POST with a ticket, and leaves a GET to Autobahn."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._protocol: Any = None

    def dataReceived(self, data: bytes) -> None:
        if self._protocol is None and data.startswith(b"POST"):
            body = b'{"ticket": "abc", "expires_in": 30}'
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            return
        if self._protocol is None:
            self._protocol = self._server._websockets.buildProtocol(None)
            self._protocol.makeConnection(self.transport)
        self._protocol.dataReceived(data)

    def connectionLost(self, reason: Any = None) -> None:
        if self._protocol is not None:
            self._protocol.connectionLost(reason)


class Canned(Protocol):
    """Answers whatever comes with the same octets."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def dataReceived(self, data: bytes) -> None:
        answer, self._answer = self._answer, b""
        self.transport.write(answer)


def canned(answer: bytes) -> Factory:
    """What answers each connection with the same octets."""
    factory = Factory()
    factory.noisy = False
    factory.buildProtocol = lambda address: Canned(answer)
    return factory
