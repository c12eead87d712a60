"""The WebSocket with the short ways in and out; whatever does not fit them is Autobahn's."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from functools import cached_property
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final

from autobahn.twisted.util import peer2str
from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol
from autobahn.websocket.types import ConnectionDeny
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from stompauth.coroutines import start
from stompauth.fastio.frames import read_close, read_message
from stompauth.fastio.output import Output, Turns
from stompauth.handshake.websocket import (
    FRAME_COST,
    StompWebSocketFactory,
    StompWebSocketProtocol,
)
from stompauth.version import __version__

if TYPE_CHECKING:
    from stompauth.session.outbound import Bounded, Outbound
    from stompauth.session.wheel import Spoke, TimerWheel
    from stompauth.settings import Limits


#: What Autobahn, and our own class, give each connection when it is made, or when its handshake is
#: over; here it is on the class until a connection has another.
AT_REST: Final[dict[str, Any]] = {
    **dict.fromkeys(
        (
            "_admission",
            "_admitting",
            "_perMessageCompress",
            "_transport_details",
            "autoPingPending",
            "autoPingPendingSent",
            "autoPingTimeoutCall",
            "closeHandshakeTimeoutCall",
            "current_frame",
            "localCloseCode",
            "localCloseReason",
            "openHandshakeTimeoutCall",
            "remoteCloseCode",
            "remoteCloseReason",
            "trackedTimings",
            "wasNotCleanReason",
        )
    ),
    **dict.fromkeys(
        (
            "closedByMe",
            "droppedByMe",
            "failedByMe",
            "inside_message",
            "triggered",
            "wasClean",
            "wasCloseHandshakeTimeout",
            "wasMaxFramePayloadSizeExceeded",
            "wasMaxMessagePayloadSizeExceeded",
            "wasOpenHandshakeTimeout",
            "wasServerConnectionDropTimeout",
            "wasServingFlashSocketPolicyFile",
        ),
        False,
    ),
    "autoPingPendingSeq": 0,
    "data": b"",
    "send_state": WebSocketProtocol.SEND_STATE_GROUND,
    "websocket_version": 13,
}

#: What Autobahn keeps of the last frames, and makes anew or has no use for, once they are over.
_OF_FRAMES: Final = (
    "_isMessageCompressed",
    "autoPingPendingSeq",
    "control_frame_data",
    "current_frame_masker",
    "frame_data",
    "frame_length",
    "message_data",
    "message_data_total_length",
    "message_is_binary",
    "utf8validateIncomingCurrentMessage",
    "utf8validateLast",
    "utf8validator",
)

#: What Autobahn gives them besides, and nobody asks for: the request, its own answer, and the like.
UNUSED: Final = frozenset(
    {
        "_wskey",
        "channel_framing",
        "countConnections",
        "http_headers",
        "http_request_data",
        "http_request_host",
        "http_request_params",
        "http_request_path",
        "http_request_uri",
        "http_response_data",
        "http_status_line",
        "is_open",
        "send_queue",
        "serverConnectionDropTimeoutCall",
        "websocket_extensions",
        "websocket_extensions_in_use",
        "websocket_origin",
        "websocket_protocol_in_use",
        "websocket_protocols",
    }
)

#: What a client's key is followed by in what the answer is a hash of (RFC 6455 section 1.3).
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_ANSWER: Final = f"""\
HTTP/1.1 101 Switching Protocols\r
Server: stompauth/{__version__}\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Accept: %s\r
""".encode("ascii")


class _Timer:
    """A call that is to come; a :class:`.Sleeper`."""

    __slots__ = ("_at", "_call", "_protocol", "_spoke", "_wheel")

    def __init__(self, wheel: TimerWheel, at: float, call: Any) -> None:
        self._wheel = wheel
        self._at = at
        # Bound to each other they would take the memory of this object once more.
        self._call = call.__func__
        self._protocol = call.__self__
        self._spoke: Spoke | None = wheel.add(self, at)

    def cancel(self) -> None:
        """Let it not come."""
        if self._spoke is not None:
            self._wheel.remove(self, self._spoke)
            self._spoke = None

    def wake(self, spoke: Spoke) -> None:
        """See :meth:`.Sleeper.wake`."""
        if spoke is not self._spoke:
            return
        if self._at > self._wheel.clock.seconds():
            self._spoke = self._wheel.add(self, self._at)
        else:
            self._spoke = None
            self._call(self._protocol)


class Timers:
    """Calls for Autobahn, on the wheel that the sessions have.

    :param wheel: theirs.
    """

    def __init__(self, wheel: TimerWheel) -> None:
        self._wheel = wheel

    def call_later(self, delay: float, call: Any) -> _Timer:
        """Call a method in so many seconds, if it is not cancelled before."""
        return _Timer(self._wheel, self._wheel.clock.seconds() + delay, call)


class _Unheard:
    """A Deferred that nobody waits for, of all connections."""

    def callback(self, result: object) -> None:
        """Call nobody."""


class FastWebSocketProtocol(StompWebSocketProtocol):
    """A WebSocket whose whole messages do not pass Autobahn.

    All that goes out goes through one :class:`.Output`, Autobahn's own frames too.
    """

    # What each has while it is open and idle; the rest is in a dictionary that goes when it can.
    __slots__ = (
        "_frames",
        "_messages",
        "_output",
        "_session",
        "_slot",
        "autoPingPendingCall",
        "connected",
        "factory",
        "state",
        "transport",
    )

    factory: FastWebSocketFactory
    _output: Output

    # Autobahn copies what these name from its factory to each connection; it is on the class.
    CONFIG_ATTRS = ()  # type: ignore[assignment]  # or any sequence
    current_frame: Any
    data: bytes
    autoPingInterval: float  # noqa: N815  # an option of Autobahn
    closeHandshakeTimeoutCall: Any  # noqa: N815
    openHandshakeTimeoutCall: Any  # noqa: N815

    # Autobahn adds to it, and nobody looks at it.
    trafficStats = TrafficStats()

    # Nobody waits for it.
    is_closed = _Unheard()

    # Autobahn makes one for each connection; most never need it.
    utf8validator = cached_property(lambda _: Utf8Validator())

    def __init__(self) -> None:
        """Make a connection that has little of its own yet; see :data:`AT_REST`."""
        # Autobahn's makes two Deferreds and a table of events, for which nobody asks.
        self._session = None
        self._slot = None
        self._frames = self._messages = 0
        self.state = self.STATE_CONNECTING
        self.autoPingPendingCall = None

    @property
    def peer(self) -> str:  # type: ignore[override]  # it can be set in Autobahn
        """The other end, for Autobahn's log, which as a rule does not want to know."""
        return peer2str(self.transport)

    # The opening handshake.

    def connectionMade(self) -> None:
        """Make the one way out."""
        self._output = Output(self, self.factory.turns)
        # Unix sockets have no such option, and not all transports the method.
        with suppress(AttributeError, OSError):
            self.transport.setTcpNoDelay(True)

    def processHandshake(self) -> None:  # noqa: N802  # Autobahn's name
        """Have the client admitted: the request was read before, and Autobahn need not read it."""
        self.data = b""
        try:
            connecting = start(self.onConnect(None))
        except ConnectionDeny as deny:
            self._deny(deny)
            return
        if not isinstance(connecting, Deferred):
            self._accept(connecting)
            return
        if self.factory.limits.handshake_timeout:
            self.openHandshakeTimeoutCall = self.factory.clock.callLater(
                self.factory.limits.handshake_timeout, self.onOpenHandshakeTimeout
            )
        connecting.addCallbacks(self._accept, lambda failure: self._deny(failure.value))
        connecting.addErrback(self._broke)

    def _accept(self, subprotocol: str | None) -> None:
        if self.openHandshakeTimeoutCall is not None:
            self.openHandshakeTimeoutCall.cancel()
            self.openHandshakeTimeoutCall = None
        key = self.handshake.key
        answer = _ANSWER % b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
        if subprotocol is not None:
            answer += b"Sec-WebSocket-Protocol: %s\r\n" % subprotocol.encode("ascii")
        self.sendData(answer + b"\r\n")
        self.state = self.STATE_OPEN
        if self.autoPingInterval:
            self.autoPingPendingCall = self.factory._batched_timer.call_later(
                self.autoPingInterval, self._sendAutoPing
            )
        self.onOpen()
        del self.handshake
        self._rest()

    def _broke(self, failure: Failure) -> None:
        self._log.failure("a handshake failed", failure)
        self.abort()

    def _deny(self, deny: ConnectionDeny) -> None:
        if self.state != self.STATE_CLOSED:
            self.failHandshake("", deny.code)

    def _rest(self) -> None:
        """Have nothing in memory that idle connections have in common, or do not need."""
        state = self.__dict__
        if state and self.state == self.STATE_OPEN and self._is_between_frames():
            for name in _OF_FRAMES:
                state.pop(name, None)
        for name in list(state):
            if AT_REST.get(name, self) is state[name]:
                del state[name]
        # A dictionary never shrinks.
        if state:
            self.__dict__ = dict(state)
        else:
            del self.__dict__

    def _is_between_frames(self) -> bool:
        return self.current_frame is None and not self.inside_message and not self.data

    # The way in.

    def dataReceived(self, data: bytes) -> None:
        """Take the whole messages that come first; the rest, and all else, is Autobahn's."""
        if self.state == self.STATE_OPEN and self._is_between_frames():
            taken = self._take_messages(data)
            if taken == len(data):
                return
            data = data[taken:]
        if self.state != self.STATE_CLOSING or not self._take_close(data):
            super().dataReceived(data)
            if self.state == self.STATE_OPEN and self._is_between_frames():
                self._rest()

    def _read(self, data: bytes) -> None:
        # As dataReceived() does, but for its words to a log at a level that is off.
        self._dataReceived(data)

    def _take_close(self, data: bytes) -> bool:
        """Take the peer's answer to our close frame, if it is easy to read and nothing else."""
        code = read_close(data)
        if code is None or not self._is_between_frames():
            return False
        if self.closeHandshakeTimeoutCall is not None:
            self.closeHandshakeTimeoutCall.cancel()
            self.closeHandshakeTimeoutCall = None
        self.remoteCloseCode = code
        self.wasClean = True
        self.dropConnection(abort=True)
        return True

    def _take_messages(self, data: bytes) -> int:
        """Take messages while they are easy to read; the place behind them."""
        place = 0
        held = len(data)
        limit: int = self.maxMessagePayloadSize  # type: ignore[attr-defined]  # one of the options
        while place < held and self.state == self.STATE_OPEN:
            message = read_message(data, place, limit)
            if message is None:
                break
            payload, place = message
            self._messages += 1
            self._give(payload, FRAME_COST)
        return place

    # The way out.

    def _open_output(self) -> None:
        if not self._output.open():
            super()._open_output()

    def outbound(self, limit: int, owner: Bounded) -> Outbound:
        """Give the session the way out that Autobahn uses, too."""
        self._output.bind(limit, owner)
        return self._output

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Send what Autobahn has made: its answer to the handshake, pings, pongs and closes."""
        self._output.write_control(data)

    def _closeConnection(self, abort: bool = False) -> None:
        """Let the transport have everything before it closes."""
        if abort:
            self._output.lose()
        else:
            self._output.close()
        super()._closeConnection(abort)

    def _lose(self, reason: Failure) -> None:
        # Past WebSocketServerProtocol's, which counts connections down that were never counted up;
        # and without words to a log at a level that is off.
        WebSocketProtocol._connectionLost(self, reason)  # type: ignore[arg-type]  # no str

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The socket is gone."""
        super().connectionLost(reason)
        self._output.lose()


class FastWebSocketFactory(StompWebSocketFactory):
    """Makes the fast protocols, and sends for all of them at the end of each turn.

    :ivar turns: does that.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._batched_timer = Timers(self.sessions.wheel)
        self.turns = Turns(self.clock, self.sessions.counters)

    def replace_limits(self, limits: Limits) -> None:
        """Take other limits, for the connections that are made from here on."""
        super().replace_limits(limits)
        options = {name: getattr(self, name) for name in StompWebSocketProtocol.CONFIG_ATTRS}
        self.protocol = type(
            "FastWebSocketProtocol", (FastWebSocketProtocol,), {**options, **AT_REST}
        )
