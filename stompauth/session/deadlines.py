"""What a session waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from stompauth.session.wheel import Spoke, TimerWheel


class Waiting(Protocol):
    """Whose deadlines they are."""

    def deadline_passed(self, name: str) -> None:
        """A deadline has passed, and is set no more."""


class Deadlines:
    """Named points in time, one of each name.

    A name that passes is taken off and given to the owner, who may set it anew. Subclasses have a
    slot for each name.

    :param wheel: wakes it.
    :param owner: is told of each name that passes.
    :cvar names: all that can be set.
    """

    __slots__ = ("_owner", "_spoke", "_wheel")

    names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, wheel: TimerWheel, owner: Waiting) -> None:
        self._wheel = wheel
        self._owner = owner
        self._spoke: Spoke | None = None
        for name in self.names:
            setattr(self, name, None)

    def set(self, name: str, delay: float) -> None:
        """Let the name pass in so many seconds, whatever was set for it before."""
        at = self._wheel.clock.seconds() + delay
        setattr(self, name, at)
        self._sleep_until(at)

    def clear(self, name: str) -> None:
        """Forget the name, if it is set."""
        setattr(self, name, None)

    def clear_all(self) -> None:
        """Forget all of them; nothing is left on the wheel."""
        for name in self.names:
            setattr(self, name, None)
        if self._spoke is not None:
            self._wheel.remove(self, self._spoke)
            self._spoke = None

    def is_set(self, name: str) -> bool:
        """Whether the name is still to pass."""
        return getattr(self, name) is not None

    def wake(self, spoke: Spoke) -> None:
        """See :meth:`.Sleeper.wake`."""
        if spoke is not self._spoke:
            return
        self._spoke = None
        now = self._wheel.clock.seconds()
        try:
            for at, name in sorted(self._pending()):
                # An earlier name's owner may have cleared this one, or set it anew.
                if at <= now and getattr(self, name) == at:
                    setattr(self, name, None)
                    self._owner.deadline_passed(name)
        finally:
            pending = self._pending()
            if pending:
                self._sleep_until(min(pending)[0])

    def _pending(self) -> list[tuple[float, str]]:
        return [(at, name) for name in self.names if (at := getattr(self, name)) is not None]

    def _sleep_until(self, at: float) -> None:
        # Whoever is woken too early looks when the next deadline is.
        if self._spoke is not None:
            if self._spoke.at <= at:
                return
            self._wheel.remove(self, self._spoke)
        self._spoke = self._wheel.add(self, at)
