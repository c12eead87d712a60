"""Handing one message to many subscriptions, for destinations that keep none waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stompauth.broker.subscription import Delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stompauth.broker.message import Message
    from stompauth.broker.subscription import Subscription


def fan_out(message: Message, subscriptions: Sequence[Subscription], limit: int) -> None:
    """Deliver the message to each of the subscriptions that is still active in its turn.

    :param limit: how many unacknowledged messages a subscription may hold; 0 for any number. One
        that would hold more overflows instead.
    """
    delivery = Delivery(message)
    for subscription in subscriptions:
        # A receiver before it may have ended a session.
        if not subscription.active:
            continue
        if subscription.ack != "auto":
            unacked = subscription.unacked
            if limit and len(unacked) >= limit:
                subscription.subscriber.overflow(subscription)
                continue
            unacked[message.message_id] = delivery
        subscription.subscriber.deliver(subscription, delivery)
    message.forget_template()
