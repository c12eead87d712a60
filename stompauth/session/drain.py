"""Ending all sessions in good order, not all at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.interfaces import IReactorTime

    from stompauth.session.session import Session

#: Sessions per second that are ended at least: so many that come back at once harm nobody.
MIN_RATE: Final = 50

#: The part of the time in which sessions are told; the rest is for those that are busy.
TELLING: Final = 0.8

#: Seconds between two handfuls.
STEP: Final = 0.1


class Drain:
    """Ends sessions with ``drain``, evenly over a time, and each when it has nothing in hand.

    A session whose frame is being carried out, such as a SEND that waits for a broker's confirm,
    ends when that is done, and its receipt sent; it reads nothing more meanwhile.

    :param sessions: which.
    :param timeout: seconds after which those that are still busy end all the same.
    :ivar rate: how many are told per second: :data:`MIN_RATE`, or more where the time is short.
    """

    def __init__(self, sessions: Iterable[Session], timeout: float, clock: IReactorTime) -> None:
        self._waiting = list(sessions)
        self._told: list[Session] = []
        self._clock = clock
        self._timeout = timeout
        self.rate = max(MIN_RATE, len(self._waiting) / (timeout * TELLING))

    def run(self) -> Deferred[None]:
        """Begin.

        :return: fires when all have been told and none is busy, or after the time.
        """
        return Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        handful = math.ceil(self.rate * STEP)
        until = self._clock.seconds() + self._timeout
        self._waiting.reverse()
        while self._waiting:
            for _ in range(min(handful, len(self._waiting))):
                session = self._waiting.pop()
                session.end_when_idle("drain")
                if not session.has_ended:
                    self._told.append(session)
            if self._waiting:
                await deferLater(self._clock, STEP)
        while self._told and self._clock.seconds() < until:
            self._told = [session for session in self._told if not session.has_ended]
            if self._told:
                await deferLater(self._clock, STEP)
        for session in self._told:
            session.end("drain")
