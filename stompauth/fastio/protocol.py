"""The WebSocket with the short ways in and out; whatever does not fit them is Autobahn's."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone

from stompauth.fastio.frames import read_message
from stompauth.fastio.output import Output, Turns
from stompauth.handshake.websocket import (
    FRAME_COST,
    StompWebSocketFactory,
    StompWebSocketProtocol,
)

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from stompauth.session.outbound import Bounded, Outbound
    from stompauth.session.wheel import Spoke, TimerWheel
    from stompauth.settings import Limits


#: What Autobahn keeps of the opening handshake, and what is of no use once it is over.
_OF_HANDSHAKE: Final = (
    "_results",
    "_transport_details",
    "_valid_events",
    "_wskey",
    "handshake",
    "http_headers",
    "http_request_data",
    "http_request_host",
    "http_request_params",
    "http_request_path",
    "http_request_uri",
    "http_response_data",
    "http_status_line",
    "is_closed",
    "is_open",
    "send_queue",
    "trafficStats",
    "websocket_extensions",
    "websocket_extensions_in_use",
    "websocket_origin",
    "websocket_protocol_in_use",
    "websocket_protocols",
)

#: What it keeps of the last frames, and makes anew or has no use for, once they are over.
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
    "peer",
    "utf8validateIncomingCurrentMessage",
    "utf8validateLast",
    "utf8validator",
)

#: What each connection has to itself at first, and all of them have in common while idle.
_AT_REST: Final[dict[str, Any]] = {
    **dict.fromkeys(
        (
            "_admission",
            "_admitting",
            "_perMessageCompress",
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
    "send_state": 0,
    "websocket_version": 13,
}


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

    # Autobahn adds to it, and nobody looks at it.
    trafficStats = TrafficStats()

    # Nobody listens to its events; these are asked for by who does.
    _results: Any = {}

    # For the log.
    peer = cached_property(lambda self: str(self.transport.getPeer()))

    # Autobahn makes them for each connection; most never need the first, and the second only when
    # they close.
    utf8validator = cached_property(lambda _: Utf8Validator())
    is_closed = cached_property(lambda _: Deferred())

    def __init__(self) -> None:
        super().__init__()
        self._session = None
        self._slot = None
        self._frames = self._messages = 0

    def succeedHandshake(self, res: Any) -> None:
        """Open, and let go of what the handshake has left."""
        super().succeedHandshake(res)
        for name in _OF_HANDSHAKE:
            self.__dict__.pop(name, None)
        self._rest()

    def _rest(self) -> None:
        """Have nothing in memory that idle connections have in common, or do not need."""
        state = self.__dict__
        if self._is_between_frames():
            for name in _OF_FRAMES:
                state.pop(name, None)
        for name, value in _AT_REST.items():
            if state.get(name, self) is value:
                del state[name]
        # A dictionary never shrinks.
        if state:
            self.__dict__ = dict(state)
        else:
            del self.__dict__

    def _is_between_frames(self) -> bool:
        return (
            self.state == self.STATE_OPEN
            and self.current_frame is None
            and not self.inside_message
            and not self.data
        )

    # The way in.

    def dataReceived(self, data: bytes) -> None:
        """Take the whole messages that come first; the rest, and all else, is Autobahn's."""
        if self._is_between_frames():
            taken = self._take_messages(data)
            if taken == len(data):
                return
            data = data[taken:]
        super().dataReceived(data)
        if self._is_between_frames():
            self._rest()

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

    def connectionMade(self) -> None:
        """Make the one way out."""
        self._output = Output(self, self.factory.turns)
        super().connectionMade()

    def _open_output(self) -> None:
        self._output.open()

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

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The socket is gone."""
        super().connectionLost(reason)
        self._output.lose()


class FastWebSocketFactory(StompWebSocketFactory):
    """Makes the fast protocols, and sends for all of them at the end of each turn."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._batched_timer = Timers(self.sessions.wheel)
        self.turns = Turns(self.clock, self.sessions.counters)

    def replace_limits(self, limits: Limits) -> None:
        """Take other limits, for the connections that are made from here on."""
        super().replace_limits(limits)
        options = {name: getattr(self, name) for name in StompWebSocketProtocol.CONFIG_ATTRS}
        self.protocol = type(
            "FastWebSocketProtocol", (FastWebSocketProtocol,), {**options, **_AT_REST}
        )
