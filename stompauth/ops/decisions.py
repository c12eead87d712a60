"""How many decisions of each kind there were, by what the audit events say of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.logger import LogEvent

#: Different values of one label that are told apart; what comes later is :data:`OTHER`.
MAX_VALUES: Final = 200

#: The label of what is one too many.
OTHER: Final = "other"

#: Which fact of an event tells its kinds apart; the others have none.
_FACTS: Final = {
    "ticket-refused": "reason",
    "handshake-denied": "reason",
    "connect-refused": "reason",
    "ended": "reason",
    "revoked": "what",
    "logout-refused": "reason",
    "control-refused": "reason",
}


class BoundedCounts:
    """Counts by label, of which there are never more than so many.

    :param limit: labels that are told apart.
    """

    def __init__(self, limit: int = MAX_VALUES) -> None:
        self._limit = limit
        self._counts: Counter[str] = Counter()

    def add(self, label: str) -> None:
        """One more."""
        if label not in self._counts and len(self._counts) >= self._limit:
            label = OTHER
        self._counts[label] += 1

    def items(self) -> list[tuple[str, int]]:
        """The labels and their counts."""
        return sorted(self._counts.items())


@implementer(ILogObserver)
class DecisionCounts:
    """Counts the audit events of this process, by event, and by reason where they have one."""

    def __init__(self) -> None:
        self._by_event: dict[str, BoundedCounts] = {}

    def start(self) -> None:
        """Begin to count."""
        globalLogPublisher.addObserver(self)

    def stop(self) -> None:
        """Count no more."""
        globalLogPublisher.removeObserver(self)

    def __call__(self, event: LogEvent) -> None:
        """Take note of an event, if it is an audit event."""
        name = event.get("audit")
        if isinstance(name, str):
            fact = _FACTS.get(name)
            # Behind a colon stand details, which are for people.
            label = str(event.get(fact, "")).partition(":")[0] if fact is not None else ""
            self._by_event.setdefault(name, BoundedCounts()).add(label)

    def of(self, event: str) -> list[tuple[str, int]]:
        """The reasons of an event, and how often it was for each."""
        counts = self._by_event.get(event)
        return counts.items() if counts is not None else []
