"""The way out: a list of frames for each connection, and one send for each list and turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet import tcp
from twisted.internet.interfaces import IPullProducer
from twisted.logger import Logger
from zope.interface import implementer

from stompauth.fastio.transport import SlimServer

try:
    from twisted.internet import unix
except ImportError:  # pragma: no cover  # not on Windows
    _DIRECT: tuple[type, ...] = (tcp.Server, SlimServer)
else:
    _DIRECT = (tcp.Server, SlimServer, unix.Server)

if TYPE_CHECKING:
    from socket import socket

    from twisted.internet.interfaces import IReactorTime

    from stompauth.counters import Counters
    from stompauth.fastio.protocol import FastWebSocketProtocol
    from stompauth.session.outbound import Bounded

#: Octets that a list may be asked to hold while the client takes all; a longer one is sent at once.
#: With what others append, no send is made of more than twice this and one frame.
PIECE: Final = 65536

#: Connections that are written to in one turn at most, before others have theirs.
SENDS: Final = 512

#: Seconds after which a turn writes to no more of them, and after how many it looks at the clock.
TURN: Final = 0.0025
STEP: Final = 64

_UNLIMITED: Final = 1 << 62


def socket_of(transport: Any) -> socket | None:
    """The socket under a transport that does nothing but write to it; else None.

    Over TLS, behind a wrapper as that of the PROXY protocol, or in a test there is none.
    """
    if type(transport) in _DIRECT and not transport.TLS:
        handle: socket = transport.getHandle()
        return handle
    return None


def is_drained(transport: Any) -> bool:
    """Whether such a transport has nothing left to write."""
    return not transport.dataBuffer and not transport._tempDataLen


class Turns:
    """Sends at the end of the reactor's turn what was written in it, some connections in each.

    :param clock: gives turns; the reactor.
    :param counters: count what is sent.
    :ivar clock: likewise.
    :ivar counters: likewise.
    """

    __slots__ = ("_waiting", "clock", "counters")

    _log = Logger()

    def __init__(self, clock: IReactorTime, counters: Counters) -> None:
        self.clock = clock
        self.counters = counters
        self._waiting: list[Output] = []

    def add(self, output: Output) -> None:
        """Let the output be sent when this turn is over."""
        if not self._waiting:
            self.clock.callLater(0, self.run)
        self._waiting.append(output)

    def run(self) -> None:
        """Send what the first of them have; the next turn goes on with the others."""
        outputs, self._waiting = self._waiting, []
        begun = now = self.clock.seconds()
        written = 0
        # The clock is the wall's, and may be set back: there is a bound without it.
        while written < min(len(outputs), SENDS) and now - begun < TURN:
            for output in outputs[written : written + STEP]:
                try:
                    output.flush(now)
                except Exception:
                    self._log.failure("a connection could not be written to")
                    output.abort()
            written += STEP
            now = self.clock.seconds()
        rest = outputs[written:]
        if rest:
            if not self._waiting:
                self.clock.callLater(0, self.run)
            # What a flush has made others write is behind them.
            self._waiting[:0] = rest


@implementer(IPullProducer)
class Output:
    """All that goes out on one connection, in order; a session's :class:`.Outbound`.

    What a turn writes is sent at its end. What the kernel does not take goes to the transport, and
    the output is blocked until that has written it: until then what comes is kept, up to a bound.

    :param protocol: whose it is.
    :param turns: sends what has begun.
    :ivar begun: what this turn has written so far; nothing while blocked.
    """

    __slots__ = (
        "_controls",
        "_has_ended",
        "_is_registering",
        "_kept",
        "_limit",
        "_owner",
        "_protocol",
        "_size",
        "_socket",
        "_turns",
        "begun",
        "is_blocked",
        "written_at",
    )

    def __init__(self, protocol: FastWebSocketProtocol, turns: Turns) -> None:
        self._protocol = protocol
        self._turns = turns
        self._socket: socket | None = None
        # Never another list: who appends holds it.
        self.begun: list[bytes] = []
        # Few are ever blocked.
        self._kept: list[bytes] | None = None
        self._controls = 0
        self._limit = _UNLIMITED
        self._owner: Bounded | None = None
        # What was written in this turn, beside what others have appended; or, while blocked, what
        # is kept and what the transport was given when it blocked.
        self._size = 0
        self._has_ended = False
        self._is_registering = False
        self.is_blocked = False
        self.written_at = 0.0

    @property
    def size(self) -> int:
        """Octets that are kept, those included that the transport was given when it blocked."""
        return self._size if self.is_blocked else sum(map(len, self.begun))

    def open(self) -> bool:
        """Go straight to the socket from here on, where there is one.

        :return: whether there is; else the transport has to tell the protocol when it is full.
        """
        transport = self._protocol.transport
        self._socket = socket_of(transport)
        if self._socket is not None and not is_drained(transport):
            # An answer to an earlier request of this connection.
            self._wait_for_transport()
        return self._socket is not None

    def bind(self, limit: int, owner: Bounded) -> None:
        """Set what is kept at most while blocked, and who is told beyond it."""
        self._limit = limit or _UNLIMITED
        self._owner = owner

    def write(self, frame: bytes) -> None:
        """See :meth:`.Outbound.write`."""
        if self.is_blocked:
            self._keep(frame)
            return
        begun = self.begun
        if not begun:
            self._turns.add(self)
        begun.append(frame)
        self._size = size = self._size + len(frame)
        if size > PIECE:
            self.flush(self._turns.clock.seconds())

    def write_control(self, data: bytes) -> None:
        """Send the WebSocket's own, such as a ping; a STOMP peer takes it for no heart-beat."""
        self._controls += 1
        self.write(data)

    def _keep(self, frame: bytes) -> None:
        if self._has_ended:
            # Nothing may stay with us; and no limit keeps back an ERROR or a close frame.
            self._protocol.transport.write(frame)
        elif self._size + len(frame) > self._limit:
            (self._owner.overflowed if self._owner is not None else self.abort)()
        else:
            if self._kept is None:
                self._kept = []
            self._kept.append(frame)
            self._size += len(frame)

    def flush(self, now: float) -> None:
        """Send what was written, until the client takes no more."""
        begun = self.begun
        if len(begun) > self._controls:
            self.written_at = now
        if self._size > PIECE:
            self._flush_in_pieces()
        elif begun:
            piece = begun[0] if len(begun) == 1 else b"".join(begun)
            begun.clear()
            self._controls = self._size = 0
            self._send(piece)

    def _flush_in_pieces(self) -> None:
        begun = self.begun
        while begun:
            size = count = 0
            while size < PIECE and count < len(begun):
                size += len(begun[count])
                count += 1
            piece = b"".join(begun[:count])
            del begun[:count]
            self._controls = min(self._controls, len(begun))
            self._size = max(0, self._size - size)
            self._send(piece)

    def _send(self, piece: bytes) -> None:
        self._turns.counters.bytes_sent += len(piece)
        if self._socket is None:
            # The transport may say meanwhile that it is full.
            self._protocol.transport.write(piece)
            return
        try:
            sent = self._socket.send(piece)
        except OSError:
            # The kernel takes nothing now; or the connection is broken, as Twisted will see.
            sent = 0
        if sent < len(piece):
            self._protocol.transport.write(piece[sent:])
            self._wait_for_transport()
            self._size += len(piece) - sent
            self._protocol.pauseProducing()

    def _wait_for_transport(self) -> None:
        self.block()
        # A pull producer is asked for more when the transport has nothing left; once also now.
        self._is_registering = True
        self._protocol.transport.registerProducer(self, False)
        self._is_registering = False

    def resumeProducing(self) -> None:
        """The transport has written all that it was given."""
        if self._is_registering:
            return
        self._protocol.transport.unregisterProducer()
        self.unblock()
        if not self.is_blocked:
            self._protocol.resumeProducing()

    def stopProducing(self) -> None:
        """The transport is gone; the protocol hears of that, too."""

    def block(self) -> None:
        """See :meth:`.Outbound.block`."""
        if self.is_blocked:
            # The session is told by the protocol, after it has happened here.
            return
        self.is_blocked = True
        self._kept = [*(self._kept or ()), *self.begun]
        self.begun.clear()
        self._size = sum(map(len, self._kept))

    def unblock(self) -> None:
        """See :meth:`.Outbound.unblock`."""
        self.is_blocked = False
        self.begun += self._kept or ()
        self._kept = None
        self._size = sum(map(len, self.begun))
        self.flush(self._turns.clock.seconds())

    def discard(self) -> None:
        """See :meth:`.Outbound.discard`; what was written before the end goes out all the same."""
        if not self._has_ended:
            self._drop()

    def _drop(self) -> None:
        # What the transport has is out of our hands, and counts until it is written.
        self._size = max(0, self._size - sum(map(len, self._kept or ())))
        self._kept = None
        self.begun.clear()

    def end(self) -> None:
        """See :meth:`.Outbound.end`."""
        self._has_ended = True
        if self._kept:
            self._protocol.transport.write(b"".join(self._kept))
            self._kept = None

    def close(self) -> None:
        """Send all that there is: the transport is about to be told to close."""
        self.end()
        self.flush(self._turns.clock.seconds())

    def abort(self) -> None:
        """Cut the connection off."""
        self.lose()
        self._protocol.abort()

    def lose(self) -> None:
        """Let go of everything: the connection is gone."""
        self._socket = None
        self._drop()
