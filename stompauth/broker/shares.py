"""How much of something bounded each user holds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Shares:
    """What users hold of something that has a bound, so that one of them leaves room for others.

    A user may hold as much as is left free, and no more: alone at most half, beside another who
    does the same a third. The application, whose user name is None, may hold it all.
    """

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def leaves_room(self, more: Mapping[str | None, int], free: float) -> bool:
        """Whether each of the users may hold so much more.

        :param more: by user name; a number below zero is what the user gives back.
        :param free: what is free when all of it has been added.
        """
        return free >= 0 and all(
            user is None or added <= 0 or self._held[user] + added <= free
            for user, added in more.items()
        )

    def add(self, user: str | None, amount: int) -> None:
        """The user holds so much more; or less, below zero."""
        if user is None:
            return
        self._held[user] += amount
        if not self._held[user]:
            del self._held[user]
