"""Transactions that a session has open (STOMP 1.2, BEGIN, COMMIT and ABORT)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stompauth.errors import Refused

if TYPE_CHECKING:
    from stompauth.settings import Limits
    from stompauth.stomp.frame import Frame

#: What a frame costs in memory beside its body and headers, so that empty ones are bounded too.
FRAME_OVERHEAD = 512

#: What a header costs beside its name and value.
HEADER_OVERHEAD = 96

#: What each delivery counts that an ACK or NACK is about, for the work that it will be.
DELIVERY_COST = 64


@dataclass(slots=True)
class _Transaction:
    frames: list[Frame] = field(default_factory=list)
    size: int = 0


class Transactions:
    """The frames of each open transaction, in order, within the session's bounds.

    :param limits: ``transactions`` and ``transaction_bytes``, the latter for all of them together.
    """

    __slots__ = ("_bytes", "_limits", "_open")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: dict[str, _Transaction] = {}
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
        self._open[name] = _Transaction()

    def add(self, name: str, frame: Frame, deliveries: int = 0) -> None:
        """Put a frame into an open one.

        :param deliveries: how many an ACK or NACK is about.
        :raises Refused: ``unknown-transaction``, or ``limit`` when it would hold too much.
        """
        transaction = self._named(name)
        size = _size(frame) + deliveries * DELIVERY_COST
        if self._limits.transaction_bytes and self._bytes + size > self._limits.transaction_bytes:
            raise Refused("limit")
        self._bytes += size
        transaction.size += size
        transaction.frames.append(frame)

    def end(self, name: str) -> list[Frame]:
        """Close one, and have its frames.

        :raises Refused: ``unknown-transaction``.
        """
        transaction = self._named(name)
        del self._open[name]
        self._bytes -= transaction.size
        return transaction.frames

    def clear(self) -> None:
        """Forget all of them: nothing of an open transaction outlives its session."""
        self._open.clear()
        self._bytes = 0

    def _named(self, name: str) -> _Transaction:
        try:
            return self._open[name]
        except KeyError:
            raise Refused("unknown-transaction") from None


def _size(frame: Frame) -> int:
    headers = sum(HEADER_OVERHEAD + len(name) + len(value) for name, value in frame.headers.items())
    return FRAME_OVERHEAD + headers + len(frame.body)
