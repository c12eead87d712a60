"""How much of something bounded each user holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Shares:
    """What users hold of something that has a bound, so that one of them leaves room for others.

    A user may hold as much as is left free, and no more: alone at most half, beside another who
    does the same a third. The application, whose user name is None, may hold it all.
    """

    def __init__(self) -> None:
        self._held: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def leaves_room(self, more: Mapping[str | None, int], free: float) -> bool:
        """Whether each of the users may hold so much more.

        :param more: by user name; a number below zero is what the user gives back.
        :param free: what is free when all of it has been added.
        """
        return all(self.leaves_room_for(user, added, free) for user, added in more.items())

    def leaves_room_for(self, user: str | None, more: int, free: float) -> bool:
        """Whether that user may hold so much more; see :meth:`leaves_room`."""
        return free >= 0 and (user is None or more <= 0 or self._held.get(user, 0) + more <= free)

    def add(self, user: str | None, amount: int) -> None:
        """The user holds so much more; or less, below zero."""
        if user is None:
            return
        held = self._held.get(user, 0) + amount
        if held:
            self._held[user] = held
        else:
            self._held.pop(user, None)
