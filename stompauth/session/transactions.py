"""Transactions that a session has open (STOMP 1.2, BEGIN, COMMIT and ABORT)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stompauth.errors import Refused

if TYPE_CHECKING:
    from stompauth.settings import Limits
    from stompauth.stomp.frame import Frame

#: What a frame costs beside its body and headers, so that empty ones are bounded too.
FRAME_OVERHEAD = 64


class Transactions:
    """The frames of each open transaction, in order, within the session's bounds.

    :param limits: ``transactions`` and ``transaction_bytes``, the latter for all of them together.
    """

    __slots__ = ("_bytes", "_limits", "_open")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[str, list[Frame]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, name: str) -> None:
        """Open one.

        :raises Refused: ``duplicate-id`` when it is open, ``limit`` when too many are.
        """
        if name in self._open:
            raise Refused("duplicate-id")
        if self._limits.transactions and len(self._open) >= self._limits.transactions:
            raise Refused("limit")
        self._open[name] = []

    def add(self, name: str, frame: Frame) -> None:
        """Put a frame into an open one.

        :raises Refused: ``unknown-transaction``, or ``limit`` when it would hold too much.
        """
        frames = self._frames(name)
        size = _size(frame)
        if self._limits.transaction_bytes and self._bytes + size > self._limits.transaction_bytes:
            raise Refused("limit")
        self._bytes += size
        frames.append(frame)

    def end(self, name: str) -> list[Frame]:
        """Close one, and have its frames.

        :raises Refused: ``unknown-transaction``.
        """
        frames = self._frames(name)
        del self._open[name]
        self._bytes -= sum(map(_size, frames))
        return frames

    def clear(self) -> None:
        """Forget all of them: nothing of an open transaction outlives its session."""
        self._open.clear()
        self._bytes = 0

    def _frames(self, name: str) -> list[Frame]:
        try:
            return self._open[name]
        except KeyError:
            raise Refused("unknown-transaction") from None


def _size(frame: Frame) -> int:
    headers = sum(len(name) + len(value) for name, value in frame.headers.items())
    return FRAME_OVERHEAD + headers + len(frame.body)
