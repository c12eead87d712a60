"""Topics: to every subscriber, and the last value that one may retain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stompauth.broker.fanout import fan_out
from stompauth.broker.subscription import Subscription
from stompauth.broker.trie import Trie
from stompauth.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.defer import Deferred

    from stompauth.authorization.destination import Destination
    from stompauth.broker.fanout import FanOuts
    from stompauth.broker.message import Message
    from stompauth.settings import Limits


class Topics:
    """The topics and patterns of topics that somebody subscribes to, and the retained values.

    Subscriptions are found by the exact destination or, those with a pattern, by an index: what
    others subscribe to costs a message nothing.

    A message with ``retain`` replaces what its topic retains; one with an empty body only takes it
    away. A new subscription gets what its destination, or pattern, retains before anything else,
    with the header ``retain: true``, by which it can be told from what has just been sent.

    :param limits: ``unacked`` and ``retained``.
    :param room: how many more destinations fit.
    :param now: tells the seconds since the epoch.
    :param fan_outs: delivers to many.
    """

    def __init__(
        self,
        limits: Limits,
        room: Callable[[], float],
        now: Callable[[], float],
        fan_outs: FanOuts,
    ) -> None:
        self.limits = limits
        self._fan_outs = fan_outs
        self._room = room
        self._now = now
        # Many topics have one subscriber, who needs no dictionary.
        self._exact: dict[str, Subscription | dict[Subscription, None]] = {}
        self._patterns: Trie[dict[Subscription, None]] = Trie()
        self._retained: Trie[Message] = Trie()

    def __len__(self) -> int:
        return len(self._exact) + len(self._patterns)

    @property
    def retained(self) -> int:
        """How many values are retained."""
        return len(self._retained)

    def subscribe(self, subscription: Subscription) -> None:
        """Add a subscription, and give it what is retained.

        :raises Refused: ``limit`` when it would be one destination too many.
        """
        destination = subscription.destination
        subscribers = self._subscribers(subscription)
        if subscribers is None:
            if self._room() < 1:
                raise Refused("limit")
            if destination.is_pattern:
                self._patterns.put(destination.segments, {subscription: None})
            else:
                self._exact[destination.path] = subscription
        elif isinstance(subscribers, Subscription):
            self._exact[destination.path] = {subscribers: None, subscription: None}
        else:
            subscribers[subscription] = None
        subscription.active = True
        for message in self._retained.covered(destination.segments):
            if message.has_expired(self._now):
                self._retained.remove(message.destination.segments)
            else:
                fan_out(message, (subscription,), self.limits.unacked)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription; what it holds unacknowledged is forgotten."""
        destination = subscription.destination
        subscribers = self._subscribers(subscription)
        if isinstance(subscribers, dict):
            subscribers.pop(subscription, None)
        subscription.active = False
        subscription.unacked.clear()
        if isinstance(subscribers, dict) and subscribers:
            return
        if destination.is_pattern:
            self._patterns.remove(destination.segments)
        else:
            self._exact.pop(destination.path, None)

    def has_subscribers(self, topic: Destination) -> bool:
        """Whether somebody subscribes to the topic, or to a pattern that covers it."""
        return topic.path in self._exact or bool(
            self._patterns and self._patterns.matching(topic.segments)
        )

    def check(self, retaining: Iterable[Message]) -> None:
        """Make sure that all these messages can be retained.

        :raises Refused: ``limit`` when they would be too many.
        """
        limit = self.limits.retained
        if not limit:
            return
        new = {
            message.destination.path
            for message in retaining
            if message.body and self._retained.get(message.destination.segments) is None
        }
        if new and len(self._retained) + len(new) > limit:
            self._forget_expired()
            if len(self._retained) + len(new) > limit:
                raise Refused("limit")

    def send(self, message: Message) -> Deferred[None] | None:
        """Deliver a message that was checked, unless it has expired.

        :return: None when that is done, else a Deferred that fires when it is.
        """
        if message.has_expired(self._now):
            return None
        destination = message.destination
        if message.retain:
            self._retain(message)
        found = self._exact.get(destination.path, ())
        targets = [found] if isinstance(found, Subscription) else list(found)
        if self._patterns:
            for subscribers in self._patterns.matching(destination.segments):
                targets += subscribers
        return self._fan_outs.start(message, targets) if targets else None

    def _subscribers(
        self, subscription: Subscription
    ) -> Subscription | dict[Subscription, None] | None:
        destination = subscription.destination
        if destination.is_pattern:
            return self._patterns.get(destination.segments)
        return self._exact.get(destination.path)

    def _retain(self, message: Message) -> None:
        segments = message.destination.segments
        if message.body:
            kept = message.derived({"retain": "true"}, expires=message.expires)
            self._retained.put(segments, kept)
        else:
            self._retained.remove(segments)

    def _forget_expired(self) -> None:
        for message in self._retained.values():
            if message.has_expired(self._now):
                self._retained.remove(message.destination.segments)
