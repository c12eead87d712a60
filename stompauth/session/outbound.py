"""What a client has not taken yet."""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

# The heads of frames, by the bits of the length.
_HEAD_7 = struct.Struct("!BB").pack
_HEAD_16 = struct.Struct("!BBH").pack
_HEAD_64 = struct.Struct("!BBQ").pack


def websocket_frame(data: bytes, *, binary: bool = False) -> bytes:
    """A whole message, as a server sends it: one frame, without a mask (RFC 6455 section 5.2)."""
    opcode = 0x82 if binary else 0x81
    length = len(data)
    if length < 126:
        return _HEAD_7(opcode, length) + data
    if length < 65536:
        return _HEAD_16(opcode, 126, length) + data
    return _HEAD_64(opcode, 127, length) + data


class Bounded(Protocol):
    """Who has a way out, and may fill it up so far only."""

    def overflowed(self) -> None:
        """A frame did not fit, and is lost."""


class Outbound(Protocol):
    """The way out of one session.

    :ivar is_blocked: whether the client takes no more for now.
    :ivar written_at: when something was last written, in seconds; 0 for never.
    :ivar begun: see :class:`.Outlet`.
    """

    is_blocked: bool
    written_at: float
    begun: list[bytes]

    @property
    def size(self) -> int:
        """Octets that are kept."""

    def write(self, frame: bytes) -> None:
        """Send a frame of the WebSocket, or keep it, in order.

        A frame that does not fit is lost, and none after it is taken: the session is told that,
        and has to end.
        """

    def block(self) -> None:
        """The client takes no more for now."""

    def unblock(self) -> None:
        """The client takes more; it may block again at any frame."""

    def discard(self) -> None:
        """Forget what is kept."""

    def end(self) -> None:
        """Keep nothing from here on, blocked or not: the session is about to close."""


class WebSocketTransport(Protocol):
    """The open WebSocket under a session."""

    def outbound(self, limit: int, owner: Bounded) -> Outbound:
        """Make the way out.

        :param limit: bytes that are kept at most while it is blocked; 0 means no limit.
        :param owner: is told when a frame does not fit.
        """

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; what was written before goes out before it."""

    def pause_reading(self) -> None:
        """Read nothing more until :meth:`resume_reading`."""

    def resume_reading(self) -> None:
        """Read on."""


class OutboundBuffer:
    """Hands frames on while they are taken, and keeps them while not; an :class:`Outbound`.

    :param send: takes frames.
    :param limit: bytes that are kept at most; 0 means no limit.
    :param owner: is told when a frame does not fit.
    :param clock: tells when something was written.
    :ivar size: bytes that are kept.
    """

    __slots__ = (
        "_clock",
        "_has_ended",
        "_limit",
        "_owner",
        "_send",
        "_waiting",
        "begun",
        "is_blocked",
        "size",
        "written_at",
    )

    def __init__(
        self,
        send: Callable[[bytes], None],
        limit: int,
        owner: Bounded,
        clock: IReactorTime,
    ) -> None:
        self._send = send
        self._limit = limit
        self._owner = owner
        self._clock = clock
        self._waiting: deque[bytes] = deque()
        # Nothing waits for the end of a turn.
        self.begun: list[bytes] = []
        self._has_ended = False
        self.is_blocked = False
        self.size = 0
        self.written_at = 0.0

    def write(self, frame: bytes) -> None:
        """Send the frame, or keep it."""
        if not self.is_blocked or self._has_ended:
            self.written_at = self._clock.seconds()
            self._send(frame)
            return
        if self._limit and self.size + len(frame) > self._limit:
            self._owner.overflowed()
            return
        self._waiting.append(frame)
        self.size += len(frame)

    def block(self) -> None:
        """See :meth:`Outbound.block`."""
        self.is_blocked = True

    def unblock(self) -> None:
        """See :meth:`Outbound.unblock`."""
        self.is_blocked = False
        while self._waiting and not self.is_blocked:
            self._send_first()

    def discard(self) -> None:
        """See :meth:`Outbound.discard`."""
        self._waiting.clear()
        self.size = 0

    def end(self) -> None:
        """See :meth:`Outbound.end`."""
        self._has_ended = True
        while self._waiting:
            self._send_first()

    def _send_first(self) -> None:
        frame = self._waiting.popleft()
        self.size -= len(frame)
        self._send(frame)
