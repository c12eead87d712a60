"""How fast a client may send."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stompauth.settings import Limits

#: What may come at once, in seconds of the rate.
BURST: Final = 2.0

#: Seconds after which the buckets are filled up again, while nothing is owed.
REFILL: Final = 0.1

#: Seconds for which a client may use all that it gets, without a pause, until it is cut off.
PATIENCE: Final = 60.0


class Throttle:
    """Two buckets, of frames and of octets, which may run into debt; then the client has to wait.

    :param limits: ``frames_per_second`` and ``bytes_per_second``; 0 is no limit.
    :param now: the time, in seconds.
    """

    __slots__ = (
        "_frame_rate",
        "_frames",
        "_octet_rate",
        "_octets",
        "_slow_since",
        "_then",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self._frame_rate = limits.frames_per_second
        self._octet_rate = limits.bytes_per_second
        self._frames = self._frame_rate * BURST or math.inf
        self._octets = self._octet_rate * BURST or math.inf
        self._then = now
        self._slow_since: float | None = None

    def take(self, frames: int, octets: int) -> None:
        """Count what has come."""
        self._frames -= frames
        self._octets -= octets

    def delay(self, now: float) -> float:
        """Seconds to wait before anything more is looked at; 0 if there is no debt."""
        if self._frames >= 0 and self._octets >= 0 and 0 <= now - self._then < REFILL:
            return 0.0
        # The clock is the wall's, and may be set back.
        passed, self._then = max(0.0, now - self._then), now
        full_frames = self._frame_rate * BURST or math.inf
        full_octets = self._octet_rate * BURST or math.inf
        self._frames = min(full_frames, self._frames + passed * self._frame_rate)
        self._octets = min(full_octets, self._octets + passed * self._octet_rate)
        delay = 0.0
        if self._frames < 0:
            delay = -self._frames / self._frame_rate
        if self._octets < 0:
            delay = max(delay, -self._octets / self._octet_rate)
        if delay:
            self._slow_since = now if self._slow_since is None else self._slow_since
        elif self._frames >= full_frames / 2 and self._octets >= full_octets / 2:
            self._slow_since = None
        return delay

    def is_out_of_patience(self, now: float) -> bool:
        """Whether the client has had to wait again and again for :data:`PATIENCE` seconds."""
        return self._slow_since is not None and now - self._slow_since >= PATIENCE
