"""How often somebody may do something."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class TokenBuckets:
    """A token bucket per key; full ones are forgotten, and the keys longest unused before others.

    :param clock: what time it is.
    :param rate: tokens per second that a bucket gains; 0 means no limit.
    :param burst: tokens that a full bucket holds.
    :param max_keys: buckets kept at most. A forgotten bucket is a full one, so that the table's
        bound can only let somebody do more, by as many keys as he has.
    """

    def __init__(
        self, clock: IReactorTime, rate: float, burst: float, max_keys: int = 100_000
    ) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = max(burst, 1.0)
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def _level(self, key: str, now: float) -> float:
        level, then = self._buckets.get(key, (self._burst, now))
        if then > now:
            # The clock was set back, and says nothing about the time between.
            return self._burst
        return min(self._burst, level + (now - then) * self._rate)

    def take(self, key: str) -> bool:
        """Take a token; False when there is none, and then nothing was taken."""
        if not self._rate:
            return True
        now = self._clock.seconds()
        level = self._level(key, now)
        if level < 1:
            return False
        self._buckets[key] = (level - 1, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        self._forget_full(now)
        return True

    def _forget_full(self, now: float) -> None:
        # More of them than one call can add, so that they go as fast as they fill.
        for _ in range(2):
            oldest = next(iter(self._buckets))
            if self._level(oldest, now) < self._burst:
                return
            del self._buckets[oldest]

    def is_empty(self, key: str) -> bool:
        """Whether the next :meth:`take` would fail."""
        return bool(self._rate) and self._level(key, self._clock.seconds()) < 1

    def retry_after(self, key: str) -> int:
        """Whole seconds until there is a token again; at least 1."""
        if not self._rate:
            return 1
        missing = 1 - self._level(key, self._clock.seconds())
        return max(1, ceil(missing / self._rate))
