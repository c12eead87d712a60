"""A broker in memory that speaks as RabbitMQ does, as far as a test lets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from zope.interface import implementer

from stompauth.relay.broker import BrokerRelay
from stompauth.settings import Limits
from stompauth.stomp.connection import ServerConnection
from stompauth.stomp.decoder import DecoderLimits
from stompauth.stomp.encoder import encode
from stompauth.stomp.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IProtocol, IProtocolFactory

NOW = 1_750_000_000.0
PASSCODE = "correct horse: battery"

_UNLIMITED = DecoderLimits(0, 0, 0)


class Upstream:
    """The broker's end of one connection.

    :ivar frames: all that came, CONNECT first.
    :ivar octets: the same as it came.
    :ivar receipts: whether each frame that asks for a receipt gets it at once.
    :ivar transport: the client's.
    """

    def __init__(self, number: int, protocol: Any) -> None:
        self.session = f"session-{number}"
        self.protocol = protocol
        self.transport = StringTransportWithDisconnection()
        self.transport.protocol = protocol
        self.frames: list[Frame] = []
        self.octets = b""
        self.receipts = True
        self.delivered = 0
        self._stomp = ServerConnection(_UNLIMITED, _UNLIMITED, (10, 10))
        self._read = 0
        protocol.makeConnection(self.transport)

    @property
    def is_lost(self) -> bool:
        return not self.transport.connected

    def take(self) -> list[Frame]:
        """The frames since the last call, without CONNECT."""
        frames = [frame for frame in self.frames[self._read :] if frame.command != "CONNECT"]
        self._read = len(self.frames)
        return frames

    def turn(self, connects: bool) -> bool:
        """Read what the client has sent, and answer; whether there was anything."""
        data = self.transport.value()
        self.transport.clear()
        self.octets += data
        self._stomp.receive_data(data)
        while (frame := self._stomp.next_frame()) is not None:
            self.frames.append(frame)
            if frame.command == "CONNECT":
                if connects:
                    self.accept()
            elif "receipt" in frame.headers and self.receipts:
                self.confirm(frame)
        return bool(data)

    def accept(self, **headers: str) -> None:
        """Say CONNECTED."""
        self.give(self._stomp.accept(0.0, {"session": self.session, **headers}))

    def confirm(self, frame: Frame) -> None:
        """Say RECEIPT."""
        self.give(encode(Frame("RECEIPT", {"receipt-id": frame.headers["receipt"]}), "1.2"))

    def confirm_all(self) -> None:
        """Say RECEIPT for whatever has asked so far, and from now on."""
        self.receipts = True
        for frame in self.frames:
            if "receipt" in frame.headers:
                self.confirm(frame)

    def error(self, message: str, body: bytes = b"") -> None:
        """Say ERROR."""
        self.give(encode(Frame("ERROR", {"message": message}, body), "1.2"))

    def deliver(
        self, subscription: str, destination: str, body: bytes = b"x", **headers: str
    ) -> str:
        """Send a MESSAGE; its ``ack`` is returned."""
        self.delivered += 1
        ack = f"T_{subscription}@@{self.session}@@{self.delivered}"
        own = {
            "subscription": subscription,
            "destination": destination,
            "message-id": ack,
            "redelivered": "false",
            "ack": ack,
        }
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.give(encode(Frame("MESSAGE", {**own, **named}, body), "1.2"))
        return ack

    def give(self, data: bytes) -> None:
        """Let the client read octets."""
        if not self.is_lost:
            self.protocol.dataReceived(data)

    def lose(self) -> None:
        """Break the connection."""
        self.transport.loseConnection()


@implementer(IStreamClientEndpoint)
class ScriptedBroker:
    """Where a relay connects to.

    :ivar upstreams: every connection so far, in order.
    :ivar is_down: whether a connection is turned down.
    :ivar connects: whether CONNECT is answered at once.
    """

    def __init__(self) -> None:
        self.upstreams: list[Upstream] = []
        self.is_down = False
        self.connects = True

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        if self.is_down:
            return fail(ConnectError())
        protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        self.upstreams.append(Upstream(len(self.upstreams), protocol))
        return succeed(protocol)  # type: ignore[arg-type]

    def settle(self) -> None:
        """Answer until nothing is left to answer."""
        while sum(upstream.turn(self.connects) for upstream in self.upstreams):
            pass

    @property
    def living(self) -> Sequence[Upstream]:
        """The connections that are not lost."""
        return [upstream for upstream in self.upstreams if not upstream.is_lost]


class RelayFixture:
    """A relay that has its two shared connections.

    :ivar consumer: what topics come by.
    :ivar publisher: what is published goes by.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.broker = ScriptedBroker()
        self.relay = BrokerRelay(
            self.broker,
            login="chat",
            passcode=PASSCODE,
            host="tests",
            limits=limits,
            clock=self.clock,
        )
        self.relay.startService()
        self.broker.settle()

    @property
    def consumer(self) -> Upstream:
        return self.broker.upstreams[0]

    @property
    def publisher(self) -> Upstream:
        return self.broker.upstreams[1]

    @property
    def private(self) -> Upstream:
        """The connection of the only session that has one."""
        (upstream,) = self.broker.living[2:]
        return upstream

    def wait(self, waiting: Any) -> Any:
        """What a method of the relay comes to, when the broker has answered."""
        self.broker.settle()
        if not isinstance(waiting, Deferred):
            return waiting
        results: list[Any] = []
        waiting.addBoth(results.append)
        self.broker.settle()
        (result,) = results
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result
