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
    :ivar frames: how many more may come; whatever comes is taken off, also below 0.
    :ivar octets: likewise.
    :ivar refill_at: until when :meth:`delay` need not be asked, unless one of them is below 0.
    """

    __slots__ = (
        "_frame_rate",
        "_octet_rate",
        "_slow_since",
        "_then",
        "frames",
        "octets",
        "refill_at",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self._frame_rate = limits.frames_per_second
        self._octet_rate = limits.bytes_per_second
        self.frames = self._frame_rate * BURST or math.inf
        self.octets = self._octet_rate * BURST or math.inf
        self._then = now
        self.refill_at = now + REFILL
        self._slow_since: float | None = None

    def delay(self, now: float) -> float:
        """Seconds to wait before anything more is looked at; 0 if there is no debt."""
        if self.frames >= 0 and self.octets >= 0 and self._then <= now < self.refill_at:
            return 0.0
        # The clock is the wall's, and may be set back.
        passed, self._then = max(0.0, now - self._then), now
        self.refill_at = now + REFILL
        full_frames = self._frame_rate * BURST or math.inf
        full_octets = self._octet_rate * BURST or math.inf
        self.frames = min(full_frames, self.frames + passed * self._frame_rate)
        self.octets = min(full_octets, self.octets + passed * self._octet_rate)
        delay = 0.0
        if self.frames < 0:
            delay = -self.frames / self._frame_rate
        if self.octets < 0:
            delay = max(delay, -self.octets / self._octet_rate)
        if delay:
            self._slow_since = now if self._slow_since is None else self._slow_since
        elif self.frames >= full_frames / 2 and self.octets >= full_octets / 2:
            self._slow_since = None
        return delay

    def is_out_of_patience(self, now: float) -> bool:
        """Whether the client has had to wait again and again for :data:`PATIENCE` seconds."""
        return self._slow_since is not None and now - self._slow_since >= PATIENCE
