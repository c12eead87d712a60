"""What a bus has brought, until it is delivered."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Payloads that one turn of the reactor delivers at most, and seconds after which it takes no more.
PAYLOADS_PER_TURN: Final = 64
SECONDS_PER_TURN: Final = 0.005

#: Bytes that wait, from which on the bus is told to bring no more, until half of them are left.
MAX_BYTES: Final = 4 << 20

#: What a payload counts beside its octets.
OVERHEAD: Final = 256


class Inbox:
    """Delivers payloads in their order, some of them in each turn of the reactor.

    :param clock: gives the turns.
    :param deliver: called with channel and payload; returns None when that is done.
    :param pause: called when too much waits; the bus brings what it has read already.
    :param resume: called when that is over.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        deliver: Callable[[str, bytes], Deferred[None] | None],
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._deliver = deliver
        self._pause = pause
        self._resume = resume
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._is_paused = False
        self._turn: IDelayedCall | None = None
        self._is_delivering = False
        self.size = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, channel: str, payload: bytes) -> None:
        """Add a payload."""
        self._waiting.append((channel, payload))
        self.size += OVERHEAD + len(payload)
        if self.size >= MAX_BYTES and not self._is_paused:
            self._is_paused = True
            self._pause()
        self._go_on()

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()
        self._shrink(self.size)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _go_on(self) -> None:
        if self._waiting and self._turn is None and not self._is_delivering:
            self._turn = self._clock.callLater(0, self._take)

    def _take(self) -> None:
        self._turn = None
        end = self._clock.seconds() + SECONDS_PER_TURN
        for _ in range(PAYLOADS_PER_TURN):
            if not self._waiting or self._clock.seconds() > end:
                break
            channel, payload = self._waiting.popleft()
            self._shrink(OVERHEAD + len(payload))
            try:
                done = self._deliver(channel, payload)
            except Exception:
                self._log.failure("a message of the bus could not be delivered")
                continue
            if done is not None:
                self._is_delivering = True
                done.addErrback(self._failed)
                done.addCallback(self._delivered)
                return
        self._go_on()

    def _failed(self, failure: object) -> None:
        self._log.error("a message of the bus could not be delivered: {failure}", failure=failure)

    def _delivered(self, _: None) -> None:
        self._is_delivering = False
        self._go_on()

    def _shrink(self, size: int) -> None:
        self.size -= size
        if self._is_paused and self.size <= MAX_BYTES // 2:
            self._is_paused = False
            self._resume()
