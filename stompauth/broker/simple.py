"""The simple broker."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from zope.interface import implementer

from stompauth.authorization.destination import Destination, Kind
from stompauth.broker.fanout import FanOuts
from stompauth.broker.queues import Queues
from stompauth.broker.temporary import ReplyNames
from stompauth.broker.topics import Topics
from stompauth.broker.transaction import Publish, Settle
from stompauth.broker.users import UserDestinations
from stompauth.errors import LocalProtocolError, Refused
from stompauth.interfaces import IBroker
from stompauth.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime

    from stompauth.broker.message import Message
    from stompauth.broker.queue import QueueKey
    from stompauth.broker.queues import QueueDepth
    from stompauth.broker.subscription import Delivery, Subscription
    from stompauth.broker.transaction import Operation


@implementer(IBroker)
class SimpleBroker:
    """Delivers within this process, and keeps everything in its memory.

    Every method is done when it returns, but for a message to very many subscribers of a topic:
    they get it in slices, and the sender waits. Deliveries happen within the call that makes them
    possible, and subscribers may call back from within a delivery.

    :param limits: of destinations, queues, retained values and acknowledgements; the defaults if
        None.
    :param clock: tells when messages expire.
    :ivar clock: likewise. :class:`.StompAuth` lends its own to a broker that has none; without one
        a message that expires is not accepted.
    """

    counts_here_only = False

    def __init__(self, *, limits: Limits | None = None, clock: IReactorTime | None = None) -> None:
        self.clock = clock
        self._limits = limits = limits or Limits()
        self._fan_outs = FanOuts(lambda: self.clock, limits.unacked)
        self._topics = Topics(limits, self._room, self._seconds, self._fan_outs)
        self._queues = Queues(limits, self._room, self._seconds)
        self._users = UserDestinations(limits, self._seconds)
        self._reply_names = ReplyNames(limits.subscriptions)

    def replace_limits(self, limits: Limits) -> None:
        """Have other limits from now on; what is there already stays, also where it is too much."""
        self._limits = limits
        self._topics.limits = self._queues.limits = self._users.limits = limits
        self._fan_outs.limit = limits.unacked
        self._reply_names.limit = limits.subscriptions

    def counts(self) -> dict[str, int]:
        """What the broker holds, by name, and the dead letters that it had to lose so far."""
        return {
            "topics": len(self._topics),
            "retained": self._topics.retained,
            "queues": len(self._queues),
            "queue_messages": self._queues.messages,
            "queue_bytes": self._queues.size,
            "user_destinations": len(self._users),
            "reply_names": len(self._reply_names),
            "dead_letters_lost": self._queues.lost,
        }

    def deepest_queues(self, limit: int, containing: str = "") -> list[QueueDepth]:
        """So many queues that hold most, the deepest first, of those with that in their path."""
        return self._queues.deepest(limit, containing)

    def subscribe(self, subscription: Subscription) -> None:
        """See :meth:`.IBroker.subscribe`."""
        if subscription.active:
            raise LocalProtocolError("the subscription is active already")
        destination = subscription.destination
        kind = destination.kind
        if destination.is_pattern and kind is not Kind.TOPIC:
            raise Refused("no-such-destination")
        if kind is Kind.TOPIC:
            self._topics.subscribe(subscription)
        elif kind is Kind.USER and destination.user_path and destination.user_name is None:
            self._users.subscribe(subscription)
        else:
            key = _queue_key(subscription)
            if key is None:
                raise Refused("no-such-destination")
            self._queues.subscribe(key, subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """See :meth:`.IBroker.unsubscribe`."""
        if not subscription.active:
            return
        kind = subscription.destination.kind
        if kind is Kind.TOPIC:
            self._topics.unsubscribe(subscription)
        elif kind is Kind.USER:
            self._users.unsubscribe(subscription)
        elif (key := _queue_key(subscription)) is not None:
            self._queues.unsubscribe(key, subscription)

    def pause(self, subscriptions: Iterable[Subscription]) -> None:
        """See :meth:`.IBroker.pause`."""
        self._set_paused(subscriptions, True)

    def resume(self, subscriptions: Iterable[Subscription]) -> None:
        """See :meth:`.IBroker.resume`."""
        self._set_paused(subscriptions, False)

    def send(self, message: Message) -> Deferred[None] | None:
        """See :meth:`.IBroker.send`."""
        destination = message.destination
        if destination.kind is Kind.TOPIC and not message.retain:
            # There is nothing to check but this.
            self._check_clock(message)
            return self._topics.send(message)
        if destination.kind is Kind.QUEUE:
            self._check_clock(message)
            self._queues.check_one(destination.path, message)
            self._queues.put(destination.path, message)
            return None
        self._check((message,))
        return self._accept(message)

    def send_to_user(self, user: str, message: Message, session_id: str | None = None) -> int:
        """See :meth:`.IBroker.send_to_user`."""
        destination = message.destination
        if destination.kind is not Kind.QUEUE:
            raise Refused("no-such-destination")
        self._check_clock(message)
        return self._users.send(user, destination.path, message, session_id)

    def ack(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
        """See :meth:`.IBroker.ack`."""
        self._check_held(subscription, deliveries)
        self._settle(subscription, deliveries, True)

    def nack(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
        """See :meth:`.IBroker.nack`."""
        self._check_held(subscription, deliveries)
        self._settle(subscription, deliveries, False)

    def check(self, operations: Sequence[Operation]) -> None:
        """Make sure that a :meth:`commit` would succeed now.

        :raises Refused: as that would.
        """
        settles = [operation for operation in operations if isinstance(operation, Settle)]
        messages = [operation.message for operation in operations if isinstance(operation, Publish)]
        for settle in settles:
            self._check_held(settle.subscription, settle.deliveries)
        self._check(messages, settles)

    def has_subscribers(self, topic: Destination) -> bool:
        """Whether somebody subscribes to the topic, or to a pattern that covers it."""
        return self._topics.has_subscribers(topic)

    def commit(self, operations: Sequence[Operation]) -> Deferred[None] | None:
        """See :meth:`.IBroker.commit`."""
        settles = [operation for operation in operations if isinstance(operation, Settle)]
        messages = [operation.message for operation in operations if isinstance(operation, Publish)]
        with self._queues.held_back():
            self.check(operations)
            # To settle calls nobody while queues are held back, to send may end the very session.
            for settle in settles:
                self._settle(settle.subscription, settle.deliveries, settle.accepted)
            under_way = [self._accept(message) for message in messages]
        waiting = [deferred for deferred in under_way if deferred is not None]
        # They end in their order, so the last is all of them.
        return waiting[-1] if waiting else None

    def reply_name(self, session_id: str, reply_to: str) -> str:
        """See :meth:`.IBroker.reply_name`."""
        if not reply_to.startswith("/temp-queue/"):
            return reply_to
        return self._reply_names.name(session_id, Destination.parse(reply_to).path)

    def session_ended(self, session_id: str, subscriptions: Collection[Subscription] = ()) -> None:
        """See :meth:`.IBroker.session_ended`."""
        with self._queues.held_back():
            for subscription in subscriptions:
                self.unsubscribe(subscription)
            for path in self._reply_names.forget(session_id):
                self._queues.drop((session_id, path))

    def _room(self) -> float:
        limit = self._limits.destinations
        return limit - len(self._topics) - len(self._queues) if limit else math.inf

    def _seconds(self) -> float:
        if self.clock is None:
            raise LocalProtocolError("a broker without a clock knows no expiry")
        return self.clock.seconds()

    def _check_clock(self, message: Message) -> None:
        if message.expires is not None:
            self._seconds()

    def _check(self, messages: Iterable[Message], settles: Iterable[Settle] = ()) -> None:
        retaining = []
        queued: list[tuple[QueueKey, Message]] = []
        for message in messages:
            self._check_clock(message)
            destination = message.destination
            match destination.kind:
                case Kind.TOPIC:
                    if message.retain:
                        retaining.append(message)
                case Kind.QUEUE:
                    queued.append((destination.path, message))
                case Kind.TEMP_QUEUE:
                    owner = self._reply_names.owner(destination.path)
                    if owner is not None:
                        queued.append((owner, message))
                case Kind.USER if _addressee(message) is not None:
                    pass
                case _:
                    raise Refused("no-such-destination")
        if retaining:
            self._topics.check(retaining)
        if queued:
            self._queues.check(queued, _accepted(settles))

    def _accept(self, message: Message) -> Deferred[None] | None:
        destination = message.destination
        match destination.kind:
            case Kind.TOPIC:
                return self._topics.send(message)
            case Kind.QUEUE:
                self._queues.put(destination.path, message)
            case Kind.TEMP_QUEUE:
                owner = self._reply_names.owner(destination.path)
                if owner is not None:
                    message.shown = owner[1]
                    self._queues.put(owner, message)
            case Kind.USER:
                addressee = _addressee(message)
                if addressee is not None:
                    self._users.send(*addressee, message)
        return None

    def _check_held(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> None:
        unacked = subscription.unacked
        for delivery in deliveries:
            if unacked.get(delivery.message.message_id) is not delivery:
                raise Refused("unknown-ack")

    def _settle(
        self, subscription: Subscription, deliveries: Sequence[Delivery], accepted: bool
    ) -> None:
        unacked = subscription.unacked
        # In a transaction two cumulative ACKs name the same deliveries; the first one counts.
        settled = [
            delivery
            for delivery in deliveries
            if unacked.pop(delivery.message.message_id, None) is not None
        ]
        key = _queue_key(subscription)
        if key is not None and settled:
            self._queues.settle(key, subscription, settled, accepted)

    def _set_paused(self, subscriptions: Iterable[Subscription], paused: bool) -> None:
        for subscription in subscriptions:
            subscription.paused = paused
            key = _queue_key(subscription)
            if key is not None and subscription.active:
                self._queues.update(key, subscription)


def _queue_key(subscription: Subscription) -> QueueKey | None:
    destination = subscription.destination
    match destination.kind:
        case Kind.QUEUE:
            return destination.path
        case Kind.TEMP_QUEUE:
            return subscription.subscriber.session_id, destination.path
    return None


def _addressee(message: Message) -> tuple[str, str] | None:
    destination = message.destination
    user = destination.user_name or message.sender_user
    path = destination.user_path
    return (user, path) if user is not None and path is not None else None


def _accepted(settles: Iterable[Settle]) -> Iterable[tuple[QueueKey, Delivery]]:
    """What the operations take out of queues for good, each delivery once."""
    found: dict[Delivery, QueueKey | None] = {}
    for settle in settles:
        key = _queue_key(settle.subscription) if settle.accepted else None
        for delivery in settle.deliveries:
            found.setdefault(delivery, key)
    return ((key, delivery) for delivery, key in found.items() if key is not None)
