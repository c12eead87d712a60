"""What a session waits for, on one timer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadlines:
    """Named points in time, one of each name, and a single delayed call for the next of them.

    A name that passes is taken off and given to the callback, which may set it anew.

    :param clock: what time it is.
    :param passed: called with the name of a deadline that has passed.
    """

    __slots__ = ("_at", "_call", "_clock", "_passed")

    def __init__(self, clock: IReactorTime, passed: Callable[[str], None]) -> None:
        self._clock = clock
        self._passed = passed
        self._at: dict[str, float] = {}
        self._call: IDelayedCall | None = None

    def set(self, name: str, delay: float) -> None:
        """Let the name pass in so many seconds, whatever was set for it before."""
        self._at[name] = self._clock.seconds() + delay
        self._schedule()

    def clear(self, name: str) -> None:
        """Forget the name, if it is set."""
        if self._at.pop(name, None) is not None:
            self._schedule()

    def clear_all(self) -> None:
        """Forget all of them; nothing is left on the clock."""
        self._at.clear()
        self._schedule()

    def is_set(self, name: str) -> bool:
        """Whether the name is still to pass."""
        return name in self._at

    def _schedule(self) -> None:
        if not self._at:
            if self._call is not None:
                self._call.cancel()
                self._call = None
            return
        at = min(self._at.values())
        delay = max(0.0, at - self._clock.seconds())
        if self._call is None:
            self._call = self._clock.callLater(delay, self._run)
        elif abs(self._call.getTime() - at) > 1e-6:
            self._call.reset(delay)

    def _run(self) -> None:
        self._call = None
        now = self._clock.seconds()
        for name in [name for name, at in self._at.items() if at <= now]:
            # An earlier name's callback may have cleared this one.
            if self._at.get(name, now + 1) <= now:
                del self._at[name]
                self._passed(name)
        self._schedule()
