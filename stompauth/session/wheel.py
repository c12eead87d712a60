"""One timer for all sessions."""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from twisted.logger import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: From so many seconds ahead on, times are rounded up to the next tick, so that many share a turn.
COARSE: Final = 1.0
TICK: Final = 0.0625

#: Sleepers that one turn of the reactor wakes at most, before others have theirs.
WOKEN: Final = 256

#: From so many seconds ahead on, a sleeper is woken early, and has to go on sleeping.
FAR: Final = 64.0
STRIDE: Final = 32.0


class Sleeper(Protocol):
    """Whatever a wheel wakes."""

    def wake(self, spoke: Spoke) -> None:
        """A spoke's time has come: if it is still this one's, look what is due, and go on.

        It may be earlier than was asked for.
        """


class Spoke(dict[Sleeper, None]):
    """All that wake at the same time, in the order in which they came.

    :ivar at: when that is, in seconds.
    """

    __slots__ = ("at",)

    at: float


class TimerWheel:
    """Wakes any number of sleepers, with a single delayed call on the clock, and none for nobody.

    A time that is less than :data:`COARSE` seconds ahead is kept exactly. Others are rounded up to
    a :data:`TICK`; those beyond :data:`FAR` down to a :data:`STRIDE`, because by then most of them
    will have changed. To add and to remove costs the same however many sleep. One turn of the
    reactor wakes :data:`WOKEN` at most.

    :param clock: what time it is.
    :ivar clock: likewise.
    """

    __slots__ = ("_at", "_call", "_due", "_spokes", "clock")

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self._spokes: dict[float, Spoke] = {}
        # Spokes whose time has come, and who sleeps on them has not been woken yet.
        self._due: deque[Spoke] = deque()
        # A heap of their times, and of some at which nobody sleeps any more.
        self._at: list[float] = []
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        return sum(map(len, self._spokes.values())) + sum(map(len, self._due))

    def add(self, sleeper: Sleeper, at: float) -> Spoke:
        """Wake the sleeper at that time, once.

        :param at: in seconds; what is past comes with the next turn.
        :return: where it sleeps, for :meth:`remove`; it may sleep in one place only.
        """
        ahead = at - self.clock.seconds()
        if ahead >= FAR:
            at = math.floor(at / STRIDE) * STRIDE
        elif ahead >= COARSE:
            at = math.ceil(at / TICK) * TICK
        spoke = self._spokes.get(at)
        if spoke is None:
            spoke = self._spokes[at] = Spoke()
            spoke.at = at
            heapq.heappush(self._at, at)
            self._schedule()
        spoke[sleeper] = None
        return spoke

    def remove(self, sleeper: Sleeper, spoke: Spoke) -> None:
        """Let the sleeper sleep on."""
        spoke.pop(sleeper, None)
        if spoke:
            return
        if self._spokes.get(spoke.at) is spoke:
            del self._spokes[spoke.at]
            if len(self._at) > 2 * len(self._spokes) + 16:
                # What is sorted is a heap.
                self._at = sorted(self._spokes)
        self._schedule()

    def _schedule(self) -> None:
        while self._at and self._at[0] not in self._spokes:
            heapq.heappop(self._at)
        if not self._at and not any(self._due):
            if self._call is not None:
                self._call.cancel()
                self._call = None
            return
        now = self.clock.seconds()
        at = now if any(self._due) else max(now, self._at[0])
        if self._call is None:
            self._call = self.clock.callLater(at - now, self._turn)
        elif abs(self._call.getTime() - at) > 1e-6:
            self._call.reset(at - now)

    def _turn(self) -> None:
        self._call = None
        now = self.clock.seconds()
        # Who is to be woken anew at once has to wait for the next turn.
        while self._at and self._at[0] <= now:
            spoke = self._spokes.pop(heapq.heappop(self._at), None)
            if spoke is not None:
                self._due.append(spoke)
        for _ in range(WOKEN):
            while self._due and not self._due[0]:
                self._due.popleft()
            if not self._due:
                break
            spoke = self._due[0]
            sleeper = next(iter(spoke))
            del spoke[sleeper]
            try:
                sleeper.wake(spoke)
            except Exception:
                self._log.failure("a timer failed")
        self._schedule()
