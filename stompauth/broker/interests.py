"""What a node has asked its bus for, and for whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

H = TypeVar("H")


@dataclass(slots=True, eq=False)
class _Interest(Generic[H]):
    holders: set[H] = field(default_factory=set)
    waiting: dict[H, Deferred[None]] = field(default_factory=dict)
    is_confirmed: bool = False


class Interests(Generic[H]):
    """Asks a bus once for what many want, until none of them does.

    A holder has one interest. The table is as long as there are holders, which others bound.

    :param subscribe: see :meth:`.MessageBus.subscribe`.
    :param unsubscribe: see :meth:`.MessageBus.unsubscribe`.
    """

    def __init__(
        self,
        subscribe: Callable[[str], Deferred[None]],
        unsubscribe: Callable[[str], None],
    ) -> None:
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._interests: dict[str, _Interest[H]] = {}
        self._keys: dict[H, str] = {}

    def __len__(self) -> int:
        return len(self._interests)

    def __contains__(self, holder: H) -> bool:
        return holder in self._keys

    def add(self, key: str, holder: H) -> Deferred[None] | None:
        """Let a holder have an interest.

        :return: None when the bus has confirmed it already, else a Deferred that fires when it
            does, or when the holder has been removed; it fails as the bus does, and the holder is
            not there then.
        """
        interest = self._interests.get(key)
        is_new = interest is None
        if interest is None:
            interest = self._interests[key] = _Interest()
        interest.holders.add(holder)
        self._keys[holder] = key
        if interest.is_confirmed:
            return None
        waiting = interest.waiting[holder] = Deferred()
        if is_new:
            self._subscribe(key).addCallbacks(
                self._confirmed,
                self._failed,
                callbackArgs=(interest,),
                errbackArgs=(key, interest),
            )
        return waiting

    def remove(self, holder: H) -> None:
        """Let a holder have its interest no longer, if it has one."""
        key = self._keys.pop(holder, None)
        if key is None:
            return
        interest = self._interests[key]
        interest.holders.remove(holder)
        if not interest.holders:
            # The next holder's is another interest: what the bus says of this one is not about it.
            del self._interests[key]
            self._unsubscribe(key)
        waiting = interest.waiting.pop(holder, None)
        if waiting is not None:
            waiting.callback(None)

    def clear(self) -> list[H]:
        """Forget all of them, without a word to the bus, which has forgotten them itself.

        :return: the holders that did not wait; those that do hear of it from the bus.
        """
        holders = [
            holder
            for interest in self._interests.values()
            for holder in interest.holders
            if holder not in interest.waiting
        ]
        for interest in self._interests.values():
            interest.holders.clear()
        self._interests.clear()
        self._keys.clear()
        return holders

    def _confirmed(self, _: None, interest: _Interest[H]) -> None:
        interest.is_confirmed = True
        # Whoever has waited may go on to remove itself, or another one.
        while interest.waiting:
            interest.waiting.pop(next(iter(interest.waiting))).callback(None)

    def _failed(self, failure: Failure, key: str, interest: _Interest[H]) -> None:
        if self._interests.get(key) is interest:
            del self._interests[key]
            for holder in interest.holders:
                del self._keys[holder]
            interest.holders.clear()
        while interest.waiting:
            interest.waiting.pop(next(iter(interest.waiting))).errback(failure)
