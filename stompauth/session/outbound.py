"""What a client has not taken yet."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class WebSocketTransport(Protocol):
    """The open WebSocket under a session."""

    def send(self, data: bytes, *, binary: bool) -> None:
        """Send a message."""

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake; what was sent before goes out before it."""

    def pause_reading(self) -> None:
        """Read nothing more until :meth:`resume_reading`."""

    def resume_reading(self) -> None:
        """Read on."""


class OutboundBuffer:
    """Hands frames to the transport while it takes them, and keeps them, in order, while not.

    :param transport: the WebSocket.
    :param limit: bytes that are kept at most; 0 means no limit.
    :param overflowed: called when a frame does not fit. That frame is lost, and none after it is
        taken: the session has to end.
    :ivar is_blocked: whether the transport takes no more for now.
    :ivar size: bytes that are kept.
    """

    __slots__ = ("_limit", "_overflowed", "_transport", "_waiting", "is_blocked", "size")

    def __init__(
        self, transport: WebSocketTransport, limit: int, overflowed: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._limit = limit
        self._overflowed = overflowed
        self._waiting: deque[tuple[bytes, bool]] = deque()
        self.is_blocked = False
        self.size = 0

    def write(self, data: bytes, *, binary: bool = False) -> None:
        """Send the frame, or keep it."""
        if not self.is_blocked:
            self._transport.send(data, binary=binary)
            return
        if self._limit and self.size + len(data) > self._limit:
            self._overflowed()
            return
        self._waiting.append((data, binary))
        self.size += len(data)

    def block(self) -> None:
        """The transport takes no more for now."""
        self.is_blocked = True

    def unblock(self) -> None:
        """The transport takes more; it may block again at any frame."""
        self.is_blocked = False
        while self._waiting and not self.is_blocked:
            data, binary = self._waiting.popleft()
            self.size -= len(data)
            self._transport.send(data, binary=binary)

    def flush(self) -> None:
        """Hand everything to the transport, blocked or not: the session is about to close."""
        while self._waiting:
            data, binary = self._waiting.popleft()
            self._transport.send(data, binary=binary)
        self.size = 0

    def discard(self) -> None:
        """Forget what is kept."""
        self._waiting.clear()
        self.size = 0
