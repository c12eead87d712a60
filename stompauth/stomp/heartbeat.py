"""Heart-beats: what was agreed upon, and when the next one is due (STOMP 1.2, "Heart-beating")."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Final

from stompauth.errors import RemoteProtocolError

#: No end promises or expects more than one heart-beat in this many seconds.
SHORTEST: Final = 1.0

#: A peer that promises a heart-beat less often than this many seconds promises nothing of use; one
#: that we ask for less often ourselves is still expected.
LONGEST_EXPECTED: Final = 60.0

#: The peer counts as dead after that many intervals of silence.
TOLERANCE: Final = 2.0

#: The share of the interval after which we send, so that ours arrives within it: the peer's
#: tolerance may be none.
_SEND_AFTER: Final = 0.75

#: How much of the interval earlier it may be, so that sessions do not beat all at once.
_JITTER: Final = 0.25

#: What a header says of an end that neither sends any nor wants any.
NEVER: Final = (0, 0)

_HEADER: Final = re.compile("([0-9]{1,9}),([0-9]{1,9})")


class HeartBeat:
    """The heart-beats of one session, both ways.

    Nothing is due before the first :meth:`sent` and :meth:`received`.

    :ivar send_every: seconds within which the peer must hear of us; 0 means never.
    :ivar expect_every: seconds within which the peer promised to be heard; 0 means never.
    """

    __slots__ = ("_jitter", "_received_at", "_sent_at", "expect_every", "send_every")

    def __init__(self, send_every: float, expect_every: float, jitter: float = 0.0) -> None:
        """Begin.

        :param jitter: between 0 and 1, and different for each session: how much earlier than need
            be this one beats.
        """
        self.send_every = send_every
        self.expect_every = expect_every
        self._jitter = jitter
        self._sent_at = math.inf
        self._received_at = math.inf

    @property
    def _send_after(self) -> float:
        return self.send_every * (_SEND_AFTER - _JITTER * self._jitter)

    def sent(self, now: float) -> None:
        """Something was sent then; any bytes will do. An earlier time than known is no news."""
        if self._sent_at == math.inf or now > self._sent_at:
            self._sent_at = now

    def received(self, now: float) -> None:
        """Something was received; any bytes will do."""
        self._received_at = now

    def send_due(self, now: float) -> bool:
        """Whether it is time to send a LF."""
        return self.send_every > 0 and now >= self._sent_at + self._send_after

    def is_dead(self, now: float) -> bool:
        """Whether the peer was silent for longer than can be put up with."""
        return self.expect_every > 0 and now >= self._received_at + self.expect_every * TOLERANCE

    def next_check(self, now: float) -> float | None:
        """Return the seconds after which something may be due, or None if nothing ever will."""
        at = math.inf
        if self.send_every > 0:
            at = self._sent_at + self._send_after
        if self.expect_every > 0:
            at = min(at, self._received_at + self.expect_every * TOLERANCE)
        return None if at == math.inf else max(0.0, at - now)


def parse(value: str | None) -> tuple[int, int]:
    """Read a ``heart-beat`` header: how often its sender can send, and wants to receive.

    :param value: the header, or None if there is none.
    :return: both in milliseconds, 0 for never.
    :raises RemoteProtocolError: ``bad-header``.
    """
    if value is None:
        return NEVER
    match = _HEADER.fullmatch(value)
    if match is None:
        raise RemoteProtocolError("bad-header")
    return int(match[1]), int(match[2])


@lru_cache(maxsize=16)
def write(ours: tuple[float, float]) -> str:
    """Return our ``heart-beat`` header.

    :param ours: the seconds between two that we send, and between two that we want; 0 for never.
    """
    send, expect = (round(_floor(seconds) * 1000) for seconds in ours)
    return f"{send},{expect}"


def negotiate(ours: tuple[float, float], theirs: tuple[int, int], jitter: float = 0.0) -> HeartBeat:
    """Agree on both directions; each needs one end that can send and one that wants to receive.

    :param ours: in seconds, as for :func:`write`.
    :param theirs: in milliseconds, as from :func:`parse`.
    :param jitter: as for :class:`HeartBeat`.
    """
    can_send, want = (_floor(seconds) for seconds in ours)
    they_send, they_want = (milliseconds / 1000 for milliseconds in theirs)
    send_every = max(can_send, they_want) if can_send and they_want else 0.0
    expect_every = max(want, they_send) if want and they_send else 0.0
    if expect_every > max(want, LONGEST_EXPECTED):
        expect_every = 0.0
    return HeartBeat(send_every, expect_every, jitter)


def _floor(seconds: float) -> float:
    return max(seconds, SHORTEST) if seconds > 0 else 0.0
