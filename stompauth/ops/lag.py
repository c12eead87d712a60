"""How late the reactor is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds between two looks.
INTERVAL: Final = 0.25


class ReactorLag:
    """Looks at regular times how late it is called: so long was a turn of the reactor.

    :param clock: the reactor.
    :param observe: called with the seconds, each time; never less than 0.
    """

    def __init__(self, clock: IReactorTime, observe: Callable[[float], object]) -> None:
        self._clock = clock
        self._observe = observe
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin."""
        self._call = self._clock.callLater(INTERVAL, self._look, self._clock.seconds())

    def stop(self) -> None:
        """End."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self, since: float) -> None:
        now = self._clock.seconds()
        # The wall clock may have been set back.
        self._observe(max(0.0, now - since - INTERVAL))
        self.start()
