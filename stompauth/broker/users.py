"""User destinations: private to one user's sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stompauth.broker.fanout import fan_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from stompauth.broker.message import Message
    from stompauth.broker.subscription import Subscription
    from stompauth.settings import Limits


class UserDestinations:
    """Who subscribes to ``/user/queue/**``, by user and by what stands behind ``/user``.

    The table's keys are no destinations, so there is nothing that another client could name.
    Nothing is kept for a user who has no subscription; what sessions may subscribe to is the bound.

    :param limits: ``unacked``.
    :param now: tells the seconds since the epoch.
    """

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self.limits = limits
        self._now = now
        self._table: dict[tuple[str, str], dict[Subscription, None]] = {}

    def __len__(self) -> int:
        return len(self._table)

    def subscribe(self, subscription: Subscription) -> None:
        """Add a subscription of ``/user/queue/**``."""
        self._table.setdefault(_key(subscription), {})[subscription] = None
        subscription.active = True

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription; what it holds unacknowledged is forgotten."""
        key = _key(subscription)
        subscribers = self._table[key]
        del subscribers[subscription]
        if not subscribers:
            del self._table[key]
        subscription.active = False
        subscription.unacked.clear()

    def send(self, user: str, path: str, message: Message, session_id: str | None = None) -> int:
        """Deliver a message to the user, unless it has expired.

        :param path: ``/queue/**``.
        :param session_id: of the user's sessions the only one that gets it; None for all.
        :return: how many sessions have got it.
        """
        if message.has_expired(self._now):
            return 0
        # The receiver sees what it subscribed to, whatever the sender called it.
        message.shown = f"/user{path}"
        targets = [
            target
            for target in self._table.get((user, path), ())
            if session_id in (None, target.subscriber.session_id)
        ]
        fan_out(message, targets, self.limits.unacked)
        # An overflow has ended its session.
        return len({target.subscriber.session_id for target in targets if target.active})


def _key(subscription: Subscription) -> tuple[str, str]:
    return subscription.subscriber.user, subscription.destination.path.removeprefix("/user")
