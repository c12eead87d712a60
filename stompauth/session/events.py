"""What an application can hear of its sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

#: The events, and what their observers are called with.
EVENTS: Final = {
    "connected": "(session): CONNECTED was sent",
    "subscribed": "(session, subscription): the broker delivers to it now",
    "unsubscribed": "(session, subscription): by the client, a recheck, or the session's end",
    "disconnected": "(session, reason): exactly once for each that was connected",
    "denied": "(session, command, destination, decision): an authorizer said no",
    "expiring": "(session, seconds): its token ends in so many seconds",
}


class Events:
    """Calls the observers of each event, after the fact; one that fails is logged."""

    _log = Logger()

    def __init__(self) -> None:
        self._observers: dict[str, list[Callable[..., Any]]] = {name: [] for name in EVENTS}

    def add(self, event: str, observer: Callable[..., Any]) -> None:
        """Call the observer at every such event.

        :raises ValueError: there is no such event.
        """
        if event not in self._observers:
            raise ValueError(f"no event {event!r}; there are {', '.join(EVENTS)}")
        self._observers[event].append(observer)

    def fire(self, event: str, *facts: Any) -> None:
        """Tell the observers."""
        for observer in self._observers[event]:
            try:
                observer(*facts)
            except Exception:
                self._log.failure("an observer of {event} failed", event=event)
