"""A session as the broker sees it, and messages to send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stompauth.authorization.destination import Destination
from stompauth.broker.message import Message
from stompauth.broker.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from stompauth.broker.subscription import Delivery
    from stompauth.errors import Refused


class Receiver:
    """A subscriber that writes down what it gets.

    :ivar deliveries: everything that it got, with the subscription.
    :ivar overflows: the subscriptions that it was told have overflowed.
    :ivar ends: the reasons for which the broker has ended it.
    :ivar handed: how many deliveries it was told went out by their outlets.
    :ivar on_delivery: called with each subscription and delivery, after it was written down.
    :ivar on_overflow: called with each subscription that overflows.
    """

    def __init__(self, session_id: str = "s1", user: str = "alice") -> None:
        self.session_id = session_id
        self.user = user
        self.deliveries: list[tuple[Subscription, Delivery]] = []
        self.overflows: list[Subscription] = []
        self.ends: list[Refused] = []
        self.handed = 0
        self.on_delivery: Callable[[Subscription, Delivery], object] = lambda *_: None
        self.on_overflow: Callable[[Subscription], object] = lambda *_: None

    def deliver(self, subscription: Subscription, delivery: Delivery) -> None:
        self.deliveries.append((subscription, delivery))
        self.on_delivery(subscription, delivery)

    def handed_on(self, count: int) -> None:
        self.handed += count

    def overflow(self, subscription: Subscription) -> None:
        self.overflows.append(subscription)
        self.on_overflow(subscription)

    def end(self, reason: Refused) -> None:
        self.ends.append(reason)

    def subscription(self, path: str, ack: str = "auto", prefetch: int = 0) -> Subscription:
        """A subscription of this session, which no broker knows yet."""
        destination = Destination.parse(path, pattern=True)
        return Subscription(f"to {path}", destination, ack, prefetch, self)

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of what it got."""
        return [delivery.message.body for _, delivery in self.deliveries]

    @property
    def last(self) -> Delivery:
        """The latest delivery."""
        return self.deliveries[-1][1]


def message_to(
    path: str,
    body: bytes = b"x",
    *,
    headers: dict[str, str] | None = None,
    sender: str | None = None,
    expires: float | None = None,
    retain: bool = False,
) -> Message:
    """A message; sent by the application unless there is a sender."""
    return Message(
        destination=Destination.parse(path),
        headers=headers or {},
        body=body,
        sender_user=sender,
        expires=expires,
        retain=retain,
    )
