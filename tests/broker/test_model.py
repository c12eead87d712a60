"""The simple broker against a simple model of queues, acknowledgements and transactions.

The model does not say which consumer a message goes to; it looks at each delivery and says whether
it was right. A message stays where it is in the list of its queue while somebody holds it, so that
its place is the one thing that cannot go wrong in the model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination
from stompauth.broker.message import Message
from stompauth.broker.simple import SimpleBroker
from stompauth.broker.transaction import Publish, Settle
from stompauth.errors import Refused
from stompauth.settings import Limits
from tests.broker.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stompauth.broker.subscription import Delivery, Subscriber, Subscription
    from stompauth.broker.transaction import Operation

# One queue comes more often than the rest, for it takes many steps to bring it to its limits.
QUEUES = st.sampled_from(["/queue/a", "/queue/a", "/queue/a", "/queue/b"])
SENT_TO = QUEUES | st.sampled_from(["/topic/a", "/topic/a", "/topic/b", "/user/u0/queue/x"])
SUBSCRIBED_TO = QUEUES | st.sampled_from(
    ["/queue/dlq.a", "/topic/a", "/topic/*", "/user/queue/x", "/temp-queue/t"]
)


@dataclass(eq=False)
class Item:
    """A message in a queue: waiting, or held by a subscription."""

    message: Message
    count: int = 0
    holder: Subscription | None = None


class Model:
    """What should be: lists, and nothing clever."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.limits = limits
        self.clock = clock
        self.queues: dict[object, list[Item]] = {}
        self.held: dict[Subscription, list[str]] = {}
        self.latest: dict[Subscription, int] = {}
        self.lost = 0

    def queue(self, key: object) -> list[Item]:
        return self.queues.setdefault(key, [])

    def waiting(self, key: object) -> list[Item]:
        return [item for item in self.queue(key) if item.holder is None]

    def consumers(self, key: object) -> list[Subscription]:
        return [each for each in self.held if queue_key(each) == key]

    def has_credit(self, subscription: Subscription) -> bool:
        if subscription.paused:
            return False
        return subscription.ack == "auto" or len(self.held[subscription]) < subscription.prefetch

    def has_expired(self, item: Item) -> bool:
        return item.message.has_expired(self.clock.seconds)

    def put_expired_aside(self, key: object, message_id: str | None = None) -> None:
        """What has expired leaves, or that one; in the broker it may have done so at any time."""
        for item in self.waiting(key):
            if self.has_expired(item) and message_id in (None, item.message.message_id):
                self.bury(key, item)

    def bury(self, key: object, item: Item) -> None:
        self.queue(key).remove(item)
        if not has_dead_letters(key):
            return
        letters = self.queue(str(key).replace("/queue/", "/queue/dlq."))
        if 0 < self.limits.queue_messages <= len(letters):
            self.lost += 1
            oldest = next((letter for letter in letters if letter.holder is None), None)
            if oldest is None:
                return
            letters.remove(oldest)
        letters.append(Item(item.message.derived({})))

    def give_back(self, key: object, item: Item) -> None:
        item.holder = None
        if has_dead_letters(key) and item.count >= self.limits.max_deliveries:
            self.bury(key, item)

    def settle(self, subscription: Subscription, ids: Sequence[str], accepted: bool) -> None:
        """Take messages from who holds them."""
        key = queue_key(subscription)
        for message_id in ids:
            self.held[subscription].remove(message_id)
            for item in list(self.queue(key)) if key is not None else ():
                if item.holder is subscription and item.message.message_id == message_id:
                    if accepted:
                        self.queue(key).remove(item)
                    else:
                        self.give_back(key, item)

    def end(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            self.settle(subscription, list(self.held[subscription]), accepted=False)
            del self.held[subscription]

    def refuses(self, messages: Sequence[tuple[object, Message]], freed: Counter[object]) -> bool:
        """Whether one of the queues would be too long."""
        counts: Counter[object] = Counter()
        for key, _ in messages:
            consumers = self.consumers(key)
            if not consumers or any(each.ack != "auto" for each in consumers):
                counts[key] += 1
        limit = self.limits.queue_messages
        return limit > 0 and any(
            key is not None
            and count > freed[key]
            and len(self.queue(key)) + count - freed[key] > limit
            for key, count in counts.items()
        )

    def next_item(self, key: object, message_id: str) -> Item:
        """What is to be delivered of the queue: this message, or something is wrong."""
        waiting = [item for item in self.waiting(key) if not self.has_expired(item)]
        if str(key).startswith("/queue/dlq.") and not self.limits.queue_messages:
            # In which order messages that expire become dead letters is not the model's concern.
            self.put_expired_aside(str(key).replace("dlq.", ""), message_id)
            waiting = self.waiting(key)
            waiting.sort(key=lambda item: item.message.message_id != message_id)
        assert waiting, "delivered while held by another, or after it was accepted"
        assert waiting[0].message.message_id == message_id, "out of order"
        return waiting[0]

    def delivered(self, subscription: Subscription, delivery: Delivery) -> None:
        """Judge a delivery, and take note of it."""
        assert subscription in self.held, "delivered to a subscription that has ended"
        message = delivery.message
        key = queue_key(subscription)
        if key is None:
            number = int(message.body)
            assert number > self.latest.get(subscription, -1), "out of order, or twice"
            self.latest[subscription] = number
            assert delivery.count == 1
        else:
            item = self.next_item(key, message.message_id)
            assert self.has_credit(subscription), "delivered beyond the prefetch"
            item.count += 1
            assert delivery.count == item.count
            if subscription.ack == "auto":
                self.queue(key).remove(item)
            else:
                item.holder = subscription
        if subscription.ack != "auto":
            self.held[subscription].append(message.message_id)


def queue_key(subscription: Subscription) -> object:
    """What names the queue of the subscription in the model; None for what is no queue."""
    path = subscription.destination.path
    if path.startswith("/temp-queue/"):
        return subscription.subscriber.session_id, path
    return path if path.startswith("/queue/") else None


def has_dead_letters(key: object) -> bool:
    return isinstance(key, str) and not key.startswith("/queue/dlq.")


class BrokerMachine(RuleBasedStateMachine):
    """Random sessions, doing what sessions do."""

    limits = Limits(queue_messages=3, max_deliveries=2, unacked=2)
    expiring = False

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.broker = SimpleBroker(limits=self.limits, clock=self.clock)
        self.model = Model(self.limits, self.clock)
        self.sessions = [self.session(number) for number in range(2)]
        self.fragile: set[Subscriber] = set()
        self.paused: set[Subscriber] = set()
        self.numbers = 0

    def session(self, number: int) -> Receiver:
        receiver = Receiver(f"s{number}", f"u{number}")
        receiver.on_delivery = self.delivered
        receiver.on_overflow = self.overflowed
        return receiver

    # What sessions are told.

    def delivered(self, subscription: Subscription, delivery: Delivery) -> None:
        self.model.delivered(subscription, delivery)
        if subscription.subscriber in self.fragile:
            self.end(subscription.subscriber)

    def overflowed(self, subscription: Subscription) -> None:
        assert queue_key(subscription) is None, "queues wait, and do not overflow"
        assert len(self.model.held[subscription]) == self.limits.unacked
        self.end(subscription.subscriber)

    # What sessions do.

    def subscriptions(self, receiver: Subscriber | None = None) -> list[Subscription]:
        return [each for each in self.model.held if receiver in (None, each.subscriber)]

    def holders(self) -> list[Subscription]:
        return [subscription for subscription, held in self.model.held.items() if held]

    def some_held(self, data: st.DataObject, subscription: Subscription) -> list[str]:
        """Some of what it holds: one, several, or all up to one, as an ACK may name."""
        held = self.model.held[subscription]
        if subscription.ack == "client":
            return held[: data.draw(st.integers(1, len(held)))]
        return data.draw(st.lists(st.sampled_from(held), min_size=1, unique=True))

    def end(self, receiver: Subscriber) -> None:
        subscriptions = self.subscriptions(receiver)
        self.fragile.discard(receiver)
        self.paused.discard(receiver)
        self.model.end(subscriptions)
        self.model.queues.pop((receiver.session_id, "/temp-queue/t"), None)
        self.broker.session_ended(receiver.session_id, subscriptions)

    def message(self, target: str | Receiver, expires: float | None) -> tuple[object, Message]:
        """A message, and what the model calls the queue that it goes to."""
        key: object = target if isinstance(target, str) and target.startswith("/queue/") else None
        if isinstance(target, Receiver):
            key = (target.session_id, "/temp-queue/t")
            target = self.broker.reply_name(target.session_id, "/temp-queue/t")
        self.numbers += 1
        body = b"%d" % self.numbers
        if expires is not None:
            expires = expires + self.clock.seconds() if self.expiring else None
        return key, Message(Destination.parse(target), {}, body, expires=expires)

    def publish(self, messages: Sequence[tuple[object, Message]]) -> None:
        """Tell the model what is about to be accepted."""
        for key, message in messages:
            if key is not None:
                self.model.queue(key).append(Item(message))

    def wanted(self, messages: Sequence[tuple[object, Message]]) -> list[Subscription]:
        """Who subscribes to the last of the messages that is for all."""
        last = [message for key, message in messages if key is None][-1:]
        return [
            subscription
            for subscription in self.subscriptions()
            for message in last
            if queue_key(subscription) is None
            and matches(subscription, message)
            and not message.has_expired(self.clock.seconds)
        ]

    def check_received(
        self, messages: Sequence[tuple[object, Message]], wanted: Sequence[Subscription]
    ) -> None:
        """Whoever subscribed, and still does, has got it."""
        last = [int(message.body) for key, message in messages if key is None][-1:]
        for subscription in wanted:
            if subscription in self.model.held:
                assert [self.model.latest.get(subscription)] == last, "not delivered"

    addresses = SENT_TO | st.integers(0, 1)
    lifetimes = st.sampled_from([None, None, 0.0, 2.0])

    def resolve(self, address: str | int) -> str | Receiver:
        return self.sessions[address] if isinstance(address, int) else address

    wishes = st.tuples(
        st.integers(0, 1),
        SUBSCRIBED_TO,
        st.sampled_from(["auto", "client", "client-individual"]),
        st.integers(1, 3),
    )

    @initialize(wishes=st.lists(wishes, max_size=6))
    def begin(self, wishes: list[tuple[int, str, str, int]]) -> None:
        for wish in wishes:
            self.subscribe(wish)

    @rule(wish=wishes)
    def subscribe(self, wish: tuple[int, str, str, int]) -> None:
        number, path, ack, prefetch = wish
        receiver = self.sessions[number]
        subscription = receiver.subscription(path, ack, prefetch)
        subscription.paused = receiver in self.paused
        self.model.held[subscription] = []
        self.broker.subscribe(subscription)

    @precondition(lambda self: bool(self.subscriptions()))
    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        subscription = data.draw(st.sampled_from(self.subscriptions()))
        self.model.end([subscription])
        self.broker.unsubscribe(subscription)
        assert not subscription.unacked

    @rule(address=addresses, lifetime=lifetimes, times=st.integers(1, 4))
    def send(self, address: str | int, lifetime: float | None, times: int) -> None:
        for _ in range(times):
            self.send_one(address, lifetime)

    def send_one(self, address: str | int, lifetime: float | None) -> None:
        messages = [self.message(self.resolve(address), lifetime)]
        wanted = self.wanted(messages)
        if self.model.refuses(messages, Counter()):
            self.assert_refused(messages, lambda: self.broker.send(messages[0][1]))
            return
        self.publish(messages)
        self.broker.send(messages[0][1])
        self.check_received(messages, wanted)

    @precondition(lambda self: bool(self.holders()))
    @rule(data=st.data(), accepted=st.booleans())
    def settle(self, data: st.DataObject, accepted: bool) -> None:
        subscription = data.draw(st.sampled_from(self.holders()))
        ids = self.some_held(data, subscription)
        deliveries = [subscription.unacked[message_id] for message_id in ids]
        self.model.settle(subscription, ids, accepted)
        (self.broker.ack if accepted else self.broker.nack)(subscription, deliveries)

    @rule(
        data=st.data(),
        sends=st.lists(st.tuples(addresses, lifetimes), max_size=3),
        settles=st.integers(0, 2),
        back=st.booleans(),
    )
    def commit(
        self,
        data: st.DataObject,
        sends: list[tuple[str | int, float | None]],
        settles: int,
        back: bool,
    ) -> None:
        settled = data.draw(st.permutations(self.holders()))[:settles]
        if back and settled and queue_key(settled[0]) in ("/queue/a", "/queue/b"):
            sends = [(settled[0].destination.path, lifetime) for _, lifetime in sends]
        messages = [self.message(self.resolve(address), lifetime) for address, lifetime in sends]
        operations: list[Operation] = [Publish(message) for _, message in messages]
        for subscription in settled:
            ids = self.some_held(data, subscription)
            deliveries = [subscription.unacked[message_id] for message_id in ids]
            place = data.draw(st.integers(0, len(operations)))
            operations.insert(place, Settle(subscription, deliveries, data.draw(st.booleans())))
        freed: Counter[object] = Counter()
        for operation in operations:
            if isinstance(operation, Settle) and operation.accepted:
                freed[queue_key(operation.subscription)] += len(operation.deliveries)
        wanted = self.wanted(messages)
        if self.model.refuses(messages, freed):
            self.assert_refused(messages, lambda: self.broker.commit(operations))
            return
        for operation in operations:
            if isinstance(operation, Settle):
                ids = [delivery.message.message_id for delivery in operation.deliveries]
                self.model.settle(operation.subscription, ids, operation.accepted)
        self.publish(messages)
        self.broker.commit(operations)
        self.check_received(messages, wanted)

    @rule(number=st.integers(0, 1))
    def die(self, number: int) -> None:
        self.end(self.sessions[number])

    @rule(number=st.integers(0, 1))
    def will_die_of_next_delivery(self, number: int) -> None:
        self.fragile.add(self.sessions[number])

    @rule(number=st.integers(0, 1))
    def pause_or_resume(self, number: int) -> None:
        receiver = self.sessions[number]
        subscriptions = self.subscriptions(receiver)
        if receiver in self.paused:
            self.paused.remove(receiver)
            for subscription in subscriptions:
                subscription.paused = False
            self.broker.resume(subscriptions)
        else:
            self.paused.add(receiver)
            self.broker.pause(subscriptions)

    @precondition(lambda self: self.expiring)
    @rule()
    def wait(self) -> None:
        self.clock.advance(1)

    def assert_refused(
        self, messages: Sequence[tuple[object, Message]], call: Callable[[], object]
    ) -> None:
        """It is refused as too much, and none of the messages reaches anybody."""
        code = None
        try:
            call()
        except Refused as refused:
            code = refused.code
        assert code == "queue-full"
        refused_bodies = {message.body for _, message in messages}
        assert not any(refused_bodies & set(receiver.bodies) for receiver in self.sessions)

    # What always holds.

    @invariant()
    def held_is_what_the_model_holds(self) -> None:
        for subscription, ids in self.model.held.items():
            assert list(subscription.unacked) == ids

    @invariant()
    def nothing_waits_for_a_consumer_with_credit(self) -> None:
        for key in list(self.model.queues):
            if not all(map(self.model.has_expired, self.model.waiting(key))):
                assert not any(map(self.model.has_credit, self.model.consumers(key)))

    @invariant()
    def nothing_is_lost(self) -> None:
        items = [(key, item) for key, items in self.model.queues.items() for item in items]
        # What has expired in a temporary queue may be gone.
        gone = [
            item
            for key, item in items
            if isinstance(key, tuple) and item.holder is None and self.model.has_expired(item)
        ]
        counts = self.broker.counts()
        assert len(items) - len(gone) <= counts["queue_messages"] <= len(items)
        assert counts["dead_letters_lost"] == self.model.lost

    def teardown(self) -> None:
        """Let everybody go and fetch what is left: it is all there, and nothing is beside it."""
        for receiver in self.sessions:
            self.end(receiver)
        last = Receiver("last")
        last.on_delivery = self.model.delivered
        for key in ("/queue/a", "/queue/b", "/queue/dlq.a", "/queue/dlq.b"):
            subscription = last.subscription(key)
            self.model.held[subscription] = []
            self.broker.subscribe(subscription)
            self.model.put_expired_aside(key)
            assert not self.model.queue(key)
            self.model.end([subscription])
            self.broker.unsubscribe(subscription)
        counts = self.broker.counts()
        counts.pop("dead_letters_lost")
        assert not any(counts.values()), counts


def matches(subscription: Subscription, message: Message) -> bool:
    if subscription.destination.path.startswith("/user/"):
        return message.destination.user_name == subscription.subscriber.user
    return subscription.destination.matches(message.destination)


class ExpiringMachine(BrokerMachine):
    """The same with messages that expire, and no bound at which dead letters would be lost."""

    limits = Limits(queue_messages=0, max_deliveries=2, unacked=2)
    expiring = True


class ModelTests(SynchronousTestCase):
    """Whatever sessions do, no message is lost, doubled while held, or out of order."""

    settings = settings(deadline=None, max_examples=80, stateful_step_count=50)

    def test_bounded(self) -> None:
        """The broker does what the model says, for random sessions in random order."""
        run_state_machine_as_test(BrokerMachine, settings=self.settings)

    def test_expiring(self) -> None:
        """It does so while messages expire."""
        run_state_machine_as_test(ExpiringMachine, settings=self.settings)
