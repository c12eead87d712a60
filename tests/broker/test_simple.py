"""Tests of stompauth.broker.simple."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from stompauth.broker.queues import QueueDepth
from stompauth.broker.simple import SimpleBroker
from stompauth.broker.transaction import Publish, Settle
from stompauth.errors import LocalProtocolError, Refused
from stompauth.interfaces import IBroker
from stompauth.settings import Limits
from tests.broker.receiver import Receiver, message_to

if TYPE_CHECKING:
    from stompauth.broker.subscription import Delivery, Subscription


class BrokerTestCase(SynchronousTestCase):
    """A broker with small limits, alice and bob."""

    limits = Limits(
        unacked=2,
        destinations=8,
        queue_messages=3,
        retained=2,
        subscriptions=2,
        max_deliveries=3,
    )

    def setUp(self) -> None:
        self.clock = Clock()
        self.broker = SimpleBroker(limits=self.limits, clock=self.clock)
        self.alice = Receiver("a1", "alice")
        self.bob = Receiver("b1", "bob")

    def subscribe(
        self, receiver: Receiver, path: str, ack: str = "auto", prefetch: int = 0
    ) -> Subscription:
        subscription = receiver.subscription(path, ack, prefetch)
        self.broker.subscribe(subscription)
        return subscription

    def send(self, path: str, *bodies: bytes, sender: str | None = None) -> None:
        for body in bodies:
            self.broker.send(message_to(path, body, sender=sender))

    def assert_refused(self, code: str, call: object, *arguments: object) -> None:
        self.assertEqual(self.assertRaises(Refused, call, *arguments).code, code)

    def assert_empty(self) -> None:
        """Nothing is held, of anything."""
        self.assertEqual({name: n for name, n in self.broker.counts().items() if n}, {})


def held(subscription: Subscription) -> list[Delivery]:
    return list(subscription.unacked.values())


class DestinationTests(BrokerTestCase):
    """What is served, to whom, and under which name."""

    def test_interface(self) -> None:
        """It is a broker."""
        self.assertTrue(verifyObject(IBroker, self.broker))

    def test_topic_and_queue(self) -> None:
        """A topic is for all, a queue for one."""
        for path, expected in (("/topic/x", 2), ("/queue/x", 1)):
            for receiver in (self.alice, self.bob):
                self.subscribe(receiver, path)
            self.send(path, b"1")
            count = len(self.alice.deliveries) + len(self.bob.deliveries)
            self.assertEqual(count, expected)
            self.alice.deliveries.clear()
            self.bob.deliveries.clear()

    def test_own_user_destination(self) -> None:
        """AZ-5: a client that sends to /user/queue/x reaches its own user's sessions."""
        self.subscribe(self.alice, "/user/queue/x")
        self.subscribe(self.bob, "/user/queue/x")
        self.send("/user/queue/x", b"1", sender="bob")
        self.assertEqual((self.alice.bodies, self.bob.bodies), ([], [b"1"]))

    def test_named_user_destination(self) -> None:
        """AZ-7: one user's message to another is seen by that one under its own name of it."""
        self.subscribe(self.bob, "/user/queue/x")
        self.send("/user/bob/queue/x", b"1", sender="alice")
        self.assertEqual(self.bob.bodies, [b"1"])
        headers = self.bob.last.message.frame("7").headers
        self.assertEqual(headers["destination"], "/user/queue/x")
        self.assertNotIn("bob", " ".join(headers.values()))

    def test_send_to_user(self) -> None:
        """The application says how many sessions it reached."""
        self.subscribe(self.bob, "/user/queue/x")
        self.assertEqual(self.broker.send_to_user("bob", message_to("/queue/x", b"1")), 1)
        self.assertEqual(self.broker.send_to_user("carol", message_to("/queue/x")), 0)
        self.assertEqual(self.bob.bodies, [b"1"])
        for path in ("/topic/x", "/user/queue/x", "/user/bob/queue/x"):
            self.assert_refused(
                "no-such-destination", self.broker.send_to_user, "bob", message_to(path)
            )

    def test_user_destinations_are_apart(self) -> None:
        """AZ-5: no queue, topic or pattern leads to what is private to a user or a session."""
        self.subscribe(self.bob, "/queue/x")
        self.subscribe(self.bob, "/temp-queue/x")
        self.subscribe(self.bob, "/topic/**")
        self.broker.send_to_user("alice", message_to("/queue/x"))
        name = self.broker.reply_name("a1", "/temp-queue/x")
        self.send(name, b"1")
        self.assertEqual(self.bob.bodies, [])
        self.subscribe(self.bob, name)
        self.assertEqual(self.bob.bodies, [])

    def test_not_served(self) -> None:
        """What nothing here serves is refused, to send as to subscribe, and leaves nothing."""
        neither = (
            "/app/x",
            "/session/token",
            "/other/x",
            "/topic",
            "/queue",
            "/user/queue",
            "/user/bob/topic/x",
            "/user/bob",
        )
        for path in (*neither, "/user/queue/x", "/temp-queue/x"):
            self.assert_refused("no-such-destination", self.broker.send, message_to(path))
        for path in (*neither, "/user/bob/queue/x"):
            subscription = self.alice.subscription(path)
            self.assert_refused("no-such-destination", self.broker.subscribe, subscription)
            self.assertFalse(subscription.active)
        self.assert_empty()

    def test_patterns(self) -> None:
        """Topics have wildcards, nothing else has."""
        self.subscribe(self.alice, "/topic/*/x")
        for path in ("/queue/*", "/user/queue/*", "/temp-queue/**", "/**", "/*/x", "/app/*"):
            self.assert_refused(
                "no-such-destination", self.broker.subscribe, self.alice.subscription(path)
            )
        self.send("/topic/a/x", b"1")
        self.assertEqual(self.alice.bodies, [b"1"])

    def test_twice(self) -> None:
        """To subscribe what is subscribed is a mistake of ours; to unsubscribe twice is none."""
        subscription = self.subscribe(self.alice, "/queue/x")
        self.assertRaises(LocalProtocolError, self.broker.subscribe, subscription)
        self.broker.unsubscribe(subscription)
        self.broker.unsubscribe(subscription)
        self.assert_empty()

    def test_clock(self) -> None:
        """Without a clock nothing that expires is accepted; with one that was lent it is."""
        broker = SimpleBroker()
        for path in ("/topic/x", "/queue/x"):
            message = message_to(path, expires=5.0)
            self.assertRaises(LocalProtocolError, broker.send, message)
        message = message_to("/queue/x", expires=5.0)
        self.assertRaises(LocalProtocolError, broker.send_to_user, "bob", message)
        broker.clock = self.clock
        broker.send(message_to("/queue/x", b"1", expires=5.0))
        broker.subscribe(self.alice.subscription("/queue/x"))
        self.assertEqual(self.alice.bodies, [b"1"])

    def test_pause(self) -> None:
        """A session whose connection is full takes nothing from queues until it is not."""
        subscriptions = [
            self.subscribe(self.alice, path)
            for path in ("/queue/x", "/topic/x", "/user/queue/x", "/temp-queue/x")
        ]
        self.broker.pause(subscriptions)
        self.send("/queue/x", b"1")
        self.send("/topic/x", b"2")
        late = self.alice.subscription("/queue/y")
        self.broker.pause([late])
        self.send("/queue/y", b"3")
        self.broker.subscribe(late)
        self.assertEqual(self.alice.bodies, [b"2"])
        self.broker.resume([*subscriptions, late])
        self.assertEqual(self.alice.bodies, [b"2", b"1", b"3"])


class DepthTests(BrokerTestCase):
    """How deep the queues are."""

    def test_deepest(self) -> None:
        """The deepest come first, so many of them, with what is unacknowledged and who consumes."""
        self.send("/queue/one", b"1")
        self.send("/queue/two", b"1", b"2")
        self.send("/queue/three", b"1", b"2", b"3")
        self.subscribe(self.bob, "/queue/two", "client")
        two, three = QueueDepth("/queue/two", 2, 1), QueueDepth("/queue/three", 3, 0)
        self.assertEqual(self.broker.deepest_queues(2), [three, two])
        self.assertEqual(self.broker.deepest_queues(9, "tw"), [two])
        self.assertEqual(self.broker.deepest_queues(9, "four"), [])

    def test_temporary(self) -> None:
        """A temporary queue is listed with its session."""
        self.subscribe(self.alice, "/temp-queue/x")
        self.assertEqual(
            self.broker.deepest_queues(9), [QueueDepth("/temp-queue/x", 0, 1, session="a1")]
        )


class AcknowledgementTests(BrokerTestCase):
    """AZ-9: ACK and NACK are about what this subscription holds, and nothing else."""

    def test_ack(self) -> None:
        """What is acknowledged is gone for good."""
        for path in ("/queue/x", "/topic/x", "/user/queue/x"):
            subscription = self.subscribe(self.alice, path, "client")
            self.send(path, b"1", b"2", sender="alice")
            self.broker.ack(subscription, held(subscription)[:1])
            second = self.alice.last.message.message_id
            self.assertEqual([each.message.message_id for each in held(subscription)], [second])
            self.broker.ack(subscription, held(subscription))
            self.broker.unsubscribe(subscription)
        self.assert_empty()

    def test_nack(self) -> None:
        """What a queue's consumer does not accept comes again; a topic keeps nothing."""
        for path, bodies in (("/queue/x", [b"1", b"1"]), ("/topic/x", [b"1"])):
            subscription = self.subscribe(self.alice, path, "client")
            self.send(path, b"1")
            self.broker.nack(subscription, held(subscription))
            self.assertEqual(self.alice.bodies, bodies)
            self.alice.deliveries.clear()

    def test_not_held(self) -> None:
        """AZ-9: a delivery that is not held, or belongs to another, settles nothing at all."""
        mine = self.subscribe(self.alice, "/queue/x", "client", 1)
        theirs = self.subscribe(self.bob, "/queue/x", "client", 1)
        self.send("/queue/x", b"1", b"2")
        stolen = [*held(mine), *held(theirs)]
        for call in (self.broker.ack, self.broker.nack):
            self.assert_refused("unknown-ack", call, mine, stolen)
        settle = Settle(mine, stolen, True)
        self.assert_refused("unknown-ack", self.broker.commit, [settle])
        self.assertEqual((len(mine.unacked), len(theirs.unacked)), (1, 1))

    def test_delivered_before(self) -> None:
        """AZ-9: to acknowledge an earlier delivery of a message does not settle the later one."""
        subscription = self.subscribe(self.alice, "/queue/x", "client", 1)
        self.send("/queue/x", b"1")
        earlier = held(subscription)
        self.broker.nack(subscription, earlier)
        self.assert_refused("unknown-ack", self.broker.ack, subscription, earlier)
        self.assertEqual([each.count for each in held(subscription)], [2])


class TransactionTests(BrokerTestCase):
    """All or nothing."""

    def publish(self, path: str, body: bytes = b"x", *, retain: bool = False) -> Publish:
        return Publish(message_to(path, body, sender="alice", retain=retain))

    def test_all(self) -> None:
        """Everything is done, in the order of the SENDs."""
        consumer = self.subscribe(self.alice, "/queue/x", "client")
        self.send("/queue/x", b"1")
        self.subscribe(self.bob, "/topic/**")
        self.subscribe(self.bob, "/user/queue/x")
        operations = [
            self.publish("/topic/a", b"2"),
            Settle(consumer, held(consumer), True),
            self.publish("/user/bob/queue/x", b"3"),
            self.publish("/topic/b", b"4"),
            self.publish("/queue/y", b"5"),
        ]
        self.broker.commit(operations)
        self.assertEqual(self.bob.bodies, [b"2", b"3", b"4"])
        self.assertEqual(consumer.unacked, {})
        self.assertEqual(self.broker.counts()["queue_messages"], 1)

    def test_nothing(self) -> None:
        """One operation that is refused, for whatever reason, and none is carried out."""
        consumer = self.subscribe(self.alice, "/queue/x", "client", 1)
        self.subscribe(self.bob, "/topic/**")
        self.send("/queue/x", b"1", b"2")
        deliveries = held(consumer)
        before = self.broker.counts()
        good = [
            self.publish("/topic/a", b"no", retain=True),
            Settle(consumer, deliveries, True),
            self.publish("/queue/x"),
        ]
        for code, bad in (
            ("no-such-destination", [self.publish("/app/x")]),
            ("no-such-destination", [self.publish("/temp-queue/x")]),
            ("queue-full", [self.publish("/queue/x")] * 2),
            ("limit", [self.publish(f"/queue/{n}") for n in range(8)]),
            ("limit", [self.publish(f"/topic/{n}", retain=True) for n in range(2)]),
            ("bad-destination", [self.publish("/queue/" + "x" * 245)]),
            ("unknown-ack", [Settle(consumer, deliveries, True)] * 2),
        ):
            operations = [*good, *bad]
            if code == "unknown-ack":
                other = self.subscribe(self.bob, "/queue/y", "client")
                operations.append(Settle(other, deliveries, False))
            self.assert_refused(code, self.broker.commit, operations)
            if code == "unknown-ack":
                self.broker.unsubscribe(other)
            self.assertEqual(self.bob.bodies, [])
            self.assertEqual(held(consumer), deliveries)
            self.assertEqual(self.broker.counts(), before)
        self.broker.commit(good)
        self.assertEqual(self.bob.bodies, [b"no"])

    def test_cumulative(self) -> None:
        """Two cumulative ACKs in a transaction may name the same delivery; it counts once."""
        consumer = self.subscribe(self.alice, "/queue/x", "client")
        self.send("/queue/x", b"1", b"2", b"3")
        first, second, third = held(consumer)
        self.broker.commit(
            [
                Settle(consumer, [first, second], True),
                Settle(consumer, [first, second, third], True),
            ]
        )
        self.assertEqual(consumer.unacked, {})
        self.assertEqual(self.broker.counts()["queue_messages"], 0)
        self.assertEqual(self.broker.counts()["queue_bytes"], 0)

    def test_room_counts_once(self) -> None:
        """A delivery that is named twice makes room for one message only."""
        consumer = self.subscribe(self.alice, "/queue/x", "client", 1)
        self.send("/queue/x", b"1", b"2", b"3")
        again = [Settle(consumer, held(consumer), True)] * 2
        sends = [self.publish("/queue/x")] * 2
        self.assert_refused("queue-full", self.broker.commit, [*again, *sends])
        self.broker.commit([*again, sends[0]])
        self.assertEqual(self.broker.counts()["queue_messages"], 3)

    def test_not_accepted_makes_no_room(self) -> None:
        """What a transaction gives back still needs its place."""
        consumer = self.subscribe(self.alice, "/queue/x", "client")
        self.send("/queue/x", b"1", b"2", b"3")
        operations = [Settle(consumer, held(consumer), False), self.publish("/queue/x")]
        self.assert_refused("queue-full", self.broker.commit, operations)

    def test_session_that_ends_within(self) -> None:
        """A session that ends by its own first SEND has acknowledged all the same."""
        consumer = self.subscribe(self.alice, "/queue/x", "client")
        topic = self.subscribe(self.alice, "/topic/x")
        self.send("/queue/x", b"1")

        def end(*_: object) -> None:
            self.broker.session_ended("a1", [consumer, topic])

        self.alice.on_delivery = end
        self.broker.commit(
            [
                self.publish("/topic/x"),
                Settle(consumer, held(consumer), True),
                self.publish("/queue/y", b"2"),
            ]
        )
        self.subscribe(self.bob, "/queue/x")
        self.subscribe(self.bob, "/queue/y")
        self.assertEqual(self.bob.bodies, [b"2"])

    def test_empty(self) -> None:
        """A transaction of nothing is one."""
        self.broker.commit([])
        self.assert_empty()


class ReplyTests(BrokerTestCase):
    """Request and reply between two clients."""

    def request(self) -> str:
        """Alice asks, and Bob sees where to reply to."""
        self.subscribe(self.bob, "/queue/service")
        reply_to = self.broker.reply_name("a1", "/temp-queue/x")
        self.broker.send(message_to("/queue/service", headers={"reply-to": reply_to}))
        return self.bob.last.message.headers["reply-to"]

    def test_reply(self) -> None:
        """AZ-7: the reply reaches the requester alone, under the name that the requester uses."""
        self.subscribe(self.alice, "/temp-queue/x")
        self.subscribe(self.bob, "/temp-queue/x")
        self.bob.deliveries.clear()
        self.send(self.request(), b"answer")
        self.assertEqual(self.alice.bodies, [b"answer"])
        headers = self.alice.last.message.frame("7").headers
        self.assertEqual(headers["destination"], "/temp-queue/x")
        self.assertEqual(len(self.bob.deliveries), 1)

    def test_waits(self) -> None:
        """A reply that comes before the requester subscribes waits for it."""
        self.send(self.request(), b"1", b"2")
        self.subscribe(self.alice, "/temp-queue/x")
        self.assertEqual(self.alice.bodies, [b"1", b"2"])

    def test_bounded(self) -> None:
        """RS-2: replies that nobody fetches are bounded as in any queue."""
        name = self.request()
        self.send(name, b"1", b"2", b"3")
        self.assert_refused("queue-full", self.broker.send, message_to(name))

    def test_other_reply_to(self) -> None:
        """A reply-to that names something else stays as it is."""
        for reply_to in ("/queue/x", "/topic/x", "mailto:bob", ""):
            self.assertEqual(self.broker.reply_name("a1", reply_to), reply_to)
        self.assert_empty()

    def test_bad_name(self) -> None:
        """A temporary queue has a name as everything has."""
        self.assert_refused("bad-destination", self.broker.reply_name, "a1", "/temp-queue/a b")
        self.assert_refused("bad-destination", self.broker.reply_name, "a1", "/temp-queue/*")

    def test_gone(self) -> None:
        """A requester that has left takes its queue along, and does not harm the replier."""
        name = self.request()
        self.send(name, b"1")
        self.broker.session_ended("a1")
        self.send(name, b"2")
        self.broker.commit([Publish(message_to(name))])
        self.assertEqual(self.broker.counts()["queue_messages"], 0)
        again = Receiver("a1", "alice")
        self.subscribe(again, "/temp-queue/x")
        self.assertEqual(again.bodies, [])


class EndTests(BrokerTestCase):
    """Sessions end, and nothing of them stays."""

    def test_nothing_leaks(self) -> None:
        """RS-2: when all have left, every table is empty, whatever they were doing."""
        subscriptions = [
            self.subscribe(receiver, path, "client", 1)
            for receiver in (self.alice, self.bob)
            for path in ("/topic/x", "/topic/*", "/queue/x", "/user/queue/x", "/temp-queue/x")
        ]
        name = self.broker.reply_name("a1", "/temp-queue/x")
        self.send("/topic/x", b"1", b"2")
        self.send("/queue/x", b"1")
        self.send(name, b"1", b"2", b"3")
        self.send("/user/queue/x", b"1", sender="alice")
        for receiver in (self.bob, self.alice):
            own = [each for each in subscriptions if each.subscriber is receiver]
            self.broker.session_ended(receiver.session_id, own)
        self.assertEqual(self.broker.counts()["queue_messages"], 1)
        self.subscribe(self.alice, "/queue/x")
        self.broker.session_ended("a1", [self.alice.deliveries[-1][0]])
        self.assert_empty()

    def test_not_to_itself(self) -> None:
        """What a dying session held is not given to another of its own subscriptions."""
        subscriptions = [self.subscribe(self.alice, "/queue/x", "client", 1) for _ in range(3)]
        self.send("/queue/x", b"1")
        self.broker.session_ended("a1", subscriptions)
        self.assertEqual(len(self.alice.deliveries), 1)
        self.subscribe(self.bob, "/queue/x")
        self.assertEqual(self.bob.last.count, 2)

    def test_slow_consumer(self) -> None:
        """RS-2: a session that overflows ends within the fan-out; others get everything."""
        slow = [self.subscribe(self.alice, path, "client") for path in ("/topic/x", "/queue/x")]
        self.subscribe(self.bob, "/topic/x")
        self.subscribe(self.bob, "/queue/x", "client", 1)
        self.alice.on_overflow = lambda _: self.broker.session_ended("a1", slow)
        self.send("/queue/x", b"1")
        self.send("/topic/x", b"2", b"3", b"4", b"5")
        self.assertEqual(self.alice.bodies, [b"1", b"2", b"3"])
        self.assertEqual(self.bob.bodies, [b"2", b"3", b"1", b"4", b"5"])

    def test_destinations(self) -> None:
        """RS-2: topics and queues are bounded together, and idle ones make room."""
        subscriptions = [self.subscribe(self.alice, f"/topic/{n}") for n in range(6)]
        self.send("/queue/1", b"1")
        self.send("/queue/2", b"1")
        self.assert_refused("limit", self.broker.send, message_to("/queue/3"))
        for path in ("/queue/3", "/topic/9", "/topic/*"):
            self.assert_refused("limit", self.broker.subscribe, self.alice.subscription(path))
        self.subscribe(self.alice, "/user/queue/x")
        self.send("/topic/9", b"1")
        self.broker.unsubscribe(subscriptions[0])
        self.send("/queue/3", b"1")
        self.broker.unsubscribe(self.subscribe(self.bob, "/queue/1"))
        self.subscribe(self.alice, "/topic/9")

    def test_replaced_limits(self) -> None:
        """Other limits hold from then on; what is there stays."""
        watching = self.subscribe(self.alice, "/topic/x", "client")
        self.send("/queue/1", b"1", b"2", b"3")
        self.assert_refused("queue-full", self.broker.send, message_to("/queue/1"))
        self.broker.replace_limits(Limits(destinations=2, queue_messages=4, unacked=1))
        self.send("/queue/1", b"4")
        self.assert_refused("queue-full", self.broker.send, message_to("/queue/1"))
        self.assert_refused("limit", self.broker.send, message_to("/queue/2"))
        self.broker.replace_limits(Limits(queue_messages=1, unacked=1))
        self.assert_refused("queue-full", self.broker.send, message_to("/queue/1"))
        self.assertEqual(len(self.alice.bodies), 0)
        self.subscribe(self.bob, "/queue/1")
        self.assertEqual(self.bob.bodies, [b"1", b"2", b"3", b"4"])
        self.alice.on_overflow = lambda _: self.broker.session_ended("a1", [watching])
        self.send("/topic/x", b"1", b"2")
        self.assertEqual(self.alice.bodies, [b"1"])

    def test_no_bound(self) -> None:
        """A limit of 0 is none."""
        self.broker = SimpleBroker(limits=Limits(destinations=0))
        for number in range(10):
            self.send(f"/queue/{number}", b"1")
        self.assertEqual(self.broker.counts()["queues"], 10)
