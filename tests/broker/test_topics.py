"""Tests of stompauth.broker.topics."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker.fanout import FanOuts
from stompauth.broker.topics import Topics
from stompauth.errors import Refused
from stompauth.settings import Limits
from tests.broker.receiver import Receiver, message_to

if TYPE_CHECKING:
    from stompauth.broker.subscription import Subscription


class TopicsTestCase(SynchronousTestCase):
    """Topics with small limits."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.room = 1000
        limits = Limits(unacked=2, retained=2)
        fan_outs = FanOuts(lambda: self.clock, limits.unacked)
        self.topics = Topics(limits, lambda: self.room, self.clock.seconds, fan_outs)
        self.receiver = Receiver()

    def subscribe(self, path: str, ack: str = "auto") -> Subscription:
        subscription = self.receiver.subscription(path, ack)
        self.topics.subscribe(subscription)
        return subscription

    def send(
        self, path: str, body: bytes = b"x", *, retain: bool = False, expires: float | None = None
    ) -> None:
        message = message_to(path, body, retain=retain, expires=expires)
        if retain:
            self.topics.check([message])
        self.topics.send(message)

    def received(self) -> list[tuple[str, bytes]]:
        """What came since the last time: which subscription, and the body."""
        got = [(to.destination.path, each.message.body) for to, each in self.receiver.deliveries]
        self.receiver.deliveries.clear()
        return got


class DeliveryTests(TopicsTestCase):
    """To every subscriber."""

    def test_exact(self) -> None:
        """Every subscription of the topic gets a message once, and no other one."""
        for path in ("/topic/a", "/topic/a", "/topic/b", "/topic/a/b"):
            self.subscribe(path)
        self.send("/topic/a", b"1")
        self.assertEqual(self.received(), [("/topic/a", b"1")] * 2)

    def test_patterns(self) -> None:
        """Each subscription whose pattern matches gets it, beside those of the exact name."""
        for path in ("/topic/a/b", "/topic/a/*", "/topic/*/b", "/topic/**", "/topic/a/*/c"):
            self.subscribe(path)
        self.send("/topic/a/b", b"1")
        self.assertEqual(
            sorted(self.received()),
            [(path, b"1") for path in ("/topic/**", "/topic/*/b", "/topic/a/*", "/topic/a/b")],
        )
        self.assertEqual(self.receiver.overflows, [])

    def test_one_session_twice(self) -> None:
        """A session with two subscriptions of one topic gets two deliveries, told apart."""
        first, second = self.subscribe("/topic/a"), self.subscribe("/topic/a")
        self.send("/topic/a")
        self.assertEqual([to for to, _ in self.receiver.deliveries], [first, second])

    def test_nothing_kept(self) -> None:
        """Who comes later has missed it."""
        self.send("/topic/a")
        self.subscribe("/topic/a")
        self.assertEqual(self.received(), [])

    def test_unsubscribe(self) -> None:
        """Nothing comes after an UNSUBSCRIBE, what was held is forgotten, and so is the topic."""
        for path in ("/topic/a", "/topic/*"):
            subscription = self.subscribe(path, "client")
            self.send("/topic/a")
            self.topics.unsubscribe(subscription)
            self.send("/topic/a")
            self.assertEqual(self.received(), [(path, b"x")])
            self.assertEqual((subscription.active, subscription.unacked), (False, {}))
            self.assertEqual(len(self.topics), 0)

    def test_others_stay(self) -> None:
        """One that leaves takes nobody with it."""
        for path in ("/topic/a", "/topic/*"):
            staying, leaving = self.subscribe(path), self.subscribe(path)
            self.topics.unsubscribe(leaving)
            self.send("/topic/a")
            self.assertEqual(self.received(), [(path, b"x")])
            self.topics.unsubscribe(staying)

    def test_expired(self) -> None:
        """What has expired when it is sent goes to nobody."""
        self.clock.advance(10)
        self.subscribe("/topic/a")
        self.send("/topic/a", b"old", expires=10.0)
        self.send("/topic/a", b"new", expires=10.1)
        self.assertEqual(self.received(), [("/topic/a", b"new")])

    def test_ends_within(self) -> None:
        """A session that ends by a message gets it on none of its other subscriptions."""
        subscriptions = [self.subscribe(path) for path in ("/topic/a", "/topic/a", "/topic/*")]

        def end(*_: object) -> None:
            for subscription in subscriptions:
                self.topics.unsubscribe(subscription)

        self.receiver.on_delivery = end
        self.send("/topic/a")
        self.assertEqual(self.received(), [("/topic/a", b"x")])
        self.assertEqual(len(self.topics), 0)

    def test_unacked(self) -> None:
        """RS-2: a subscription that acknowledges nothing is told when it has enough."""
        subscription = self.subscribe("/topic/a", "client")
        for _ in range(3):
            self.send("/topic/a")
        self.assertEqual(self.receiver.overflows, [subscription])
        self.assertEqual(len(self.received()), 2)

    def test_room(self) -> None:
        """RS-2: a topic or pattern more than there is room for is refused; a known one is not."""
        self.subscribe("/topic/a")
        self.subscribe("/topic/*")
        self.room = 0
        for path in ("/topic/b", "/topic/b/*"):
            refused = self.assertRaises(Refused, self.subscribe, path)
            self.assertEqual(refused.code, "limit")
        self.subscribe("/topic/a")
        self.subscribe("/topic/*")
        self.assertEqual(len(self.topics), 2)


class RetainedTests(TopicsTestCase):
    """The last value of a topic."""

    def test_replayed(self) -> None:
        """A new subscription gets the last value first, marked; what is live is not marked."""
        self.send("/topic/a", b"1", retain=True)
        self.send("/topic/a", b"2", retain=True)
        self.send("/topic/a", b"not retained")
        self.subscribe("/topic/a")
        self.assertEqual(self.receiver.last.message.headers, {"retain": "true"})
        self.send("/topic/a", b"3", retain=True)
        self.assertEqual(self.receiver.last.message.headers, {})
        self.assertEqual(self.received(), [("/topic/a", b"2"), ("/topic/a", b"3")])

    def test_pattern(self) -> None:
        """A pattern gets the last value of every topic that it matches."""
        self.send("/topic/a/1", b"1", retain=True)
        self.send("/topic/b/1", b"2", retain=True)
        self.subscribe("/topic/a/*")
        self.assertEqual(self.received(), [("/topic/a/*", b"1")])
        self.subscribe("/topic/**")
        self.assertEqual(self.received(), [("/topic/**", b"1"), ("/topic/**", b"2")])

    def test_cleared(self) -> None:
        """An empty body takes the value away, and still tells those who listen."""
        self.subscribe("/topic/a")
        self.send("/topic/a", b"1", retain=True)
        self.send("/topic/a", b"", retain=True)
        self.assertEqual(self.received(), [("/topic/a", b"1"), ("/topic/a", b"")])
        self.assertEqual(self.topics.retained, 0)
        self.subscribe("/topic/a")
        self.assertEqual(self.received(), [])

    def test_bound(self) -> None:
        """RS-2: one value too many is refused; to replace or clear one never is."""
        self.send("/topic/a", retain=True)
        self.send("/topic/b", retain=True)
        refused = self.assertRaises(Refused, self.send, "/topic/c", retain=True)
        self.assertEqual(refused.code, "limit")
        self.send("/topic/a", b"2", retain=True)
        self.send("/topic/c", b"", retain=True)
        self.send("/topic/b", b"", retain=True)
        self.send("/topic/c", retain=True)
        self.assertEqual(self.topics.retained, 2)

    def test_bound_together(self) -> None:
        """RS-2: the values of a transaction are counted together, each topic once."""
        messages = [message_to(path, retain=True) for path in ("/topic/a", "/topic/a", "/topic/b")]
        self.topics.check(messages)
        messages.append(message_to("/topic/c", retain=True))
        self.assertEqual(self.assertRaises(Refused, self.topics.check, messages).code, "limit")

    def test_expired(self) -> None:
        """A value that has expired is not replayed, and makes room."""
        for path in ("/topic/a", "/topic/b"):
            self.send(path, retain=True, expires=5.0)
        self.clock.advance(5)
        self.subscribe("/topic/a")
        self.assertEqual((self.received(), self.topics.retained), ([], 1))
        self.send("/topic/c", retain=True)
        self.send("/topic/d", retain=True)
        self.assertEqual(self.topics.retained, 2)

    def test_too_many(self) -> None:
        """RS-2: what is replayed counts as unacknowledged like everything else."""
        limits = Limits(unacked=2)
        fan_outs = FanOuts(lambda: None, limits.unacked)
        self.topics = Topics(limits, lambda: inf, self.clock.seconds, fan_outs)
        for number in range(3):
            self.send(f"/topic/{number}", retain=True)
        subscription = self.subscribe("/topic/*", "client")
        self.assertEqual(self.receiver.overflows, [subscription])
        self.assertEqual(len(self.received()), 2)

    def test_ends_within(self) -> None:
        """A session that ends by the first of many replayed values gets no more of them."""
        self.send("/topic/a", retain=True)
        self.send("/topic/b", retain=True)
        self.receiver.on_delivery = lambda subscription, _: self.topics.unsubscribe(subscription)
        self.subscribe("/topic/*")
        self.assertEqual(len(self.received()), 1)
        self.assertEqual(len(self.topics), 0)
