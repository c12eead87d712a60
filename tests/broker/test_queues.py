"""Tests of stompauth.broker.queues."""

from __future__ import annotations

import sys
from math import inf
from typing import TYPE_CHECKING

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker.message import MESSAGE_OVERHEAD
from stompauth.broker.queues import Queues
from stompauth.errors import Refused
from stompauth.settings import Limits
from tests.broker.receiver import Receiver, message_to

if TYPE_CHECKING:
    from stompauth.broker.message import Message
    from stompauth.broker.subscription import Subscription

X = "/queue/x"
DEAD = "/queue/dlq.x"


class QueuesTestCase(SynchronousTestCase):
    """Queues with small limits, and words for what happens to them."""

    limits = Limits(queue_messages=10, max_deliveries=3)

    def setUp(self) -> None:
        self.clock = Clock()
        self.room = 1000
        self.queues = Queues(self.limits, lambda: self.room, self.clock.seconds)
        self.receiver = Receiver()

    def subscribe(
        self, ack: str = "auto", prefetch: int = 0, *, path: str = X, to: Receiver | None = None
    ) -> Subscription:
        subscription = (to or self.receiver).subscription(path, ack, prefetch)
        self.queues.subscribe(path, subscription)
        return subscription

    def send(self, *bodies: bytes, path: str = X, expires: float | None = None) -> None:
        for body in bodies:
            message = message_to(path, body, expires=expires)
            self.queues.check([(path, message)])
            self.queues.put(path, message)

    def settle(self, subscription: Subscription, body: bytes, accepted: bool = True) -> None:
        """Acknowledge, or not, the held message of that body."""
        for delivery in list(subscription.unacked.values()):
            if delivery.message.body == body:
                del subscription.unacked[delivery.message.message_id]
                path = subscription.destination.path
                self.queues.settle(path, subscription, [delivery], accepted)
                return
        self.fail("not held")

    def assert_refused(self, code: str, *messages: Message) -> None:
        """Those messages, together, are refused with the code."""
        queued = [(message.destination.path, message) for message in messages]
        refused = self.assertRaises(Refused, self.queues.check, queued)
        self.assertEqual(refused.code, code)

    def received(self, receiver: Receiver) -> list[tuple[bytes, int]]:
        """What it has got since the last time: bodies and delivery counts."""
        got = [(delivery.message.body, delivery.count) for _, delivery in receiver.deliveries]
        receiver.deliveries.clear()
        return got


class DeliveryTests(QueuesTestCase):
    """Each message to exactly one consumer."""

    def test_backlog(self) -> None:
        """What is sent while nobody listens waits, and comes in order."""
        self.send(b"1", b"2", b"3")
        self.subscribe()
        self.send(b"4")
        self.assertEqual(self.receiver.bodies, [b"1", b"2", b"3", b"4"])

    def test_in_turn(self) -> None:
        """Consumers with credit take turns."""
        first, second, third = (self.subscribe() for _ in range(3))
        self.send(b"1", b"2", b"3", b"4")
        self.assertEqual(
            [subscription for subscription, _ in self.receiver.deliveries],
            [first, second, third, first],
        )

    def test_prefetch(self) -> None:
        """A slow consumer gets no more than its prefetch, and starves nobody."""
        slow, fast = Receiver("slow"), Receiver("fast")
        holding = self.subscribe("client", 2, to=slow)
        self.subscribe(to=fast)
        self.send(b"1", b"2", b"3", b"4", b"5", b"6")
        self.assertEqual(slow.bodies, [b"1", b"3"])
        self.assertEqual(fast.bodies, [b"2", b"4", b"5", b"6"])
        self.settle(holding, b"1")
        self.send(b"7", b"8", b"9")
        self.assertEqual(slow.bodies, [b"1", b"3", b"8"])

    def test_credit_returns(self) -> None:
        """An ACK makes room for what waited, one for one."""
        subscription = self.subscribe("client-individual", 2)
        self.send(b"1", b"2", b"3", b"4")
        self.assertEqual(self.receiver.bodies, [b"1", b"2"])
        self.settle(subscription, b"2")
        self.assertEqual(self.receiver.bodies, [b"1", b"2", b"3"])

    def test_nack(self) -> None:
        """What is not accepted goes to the next in turn, before what is younger."""
        one, other = Receiver("one"), Receiver("other")
        holding = self.subscribe("client", 1, to=one)
        waiting = self.subscribe("client", 1, to=other)
        self.send(b"1", b"2", b"3")
        self.settle(waiting, b"2")
        self.assertEqual(other.bodies, [b"2", b"3"])
        self.settle(waiting, b"3")
        self.settle(holding, b"1", accepted=False)
        self.assertEqual(self.received(other)[-1], (b"1", 2))

    def test_unsubscribe(self) -> None:
        """What an ended subscription held goes to others in its old order, and says so."""
        leaving = self.subscribe("client", 3)
        self.send(b"1", b"2", b"3", b"4", b"5")
        self.settle(leaving, b"2")
        self.queues.unsubscribe(X, leaving)
        self.assertEqual((leaving.active, leaving.unacked), (False, {}))
        other = Receiver("other")
        self.subscribe(to=other)
        self.assertEqual(self.received(other), [(b"1", 2), (b"3", 2), (b"4", 2), (b"5", 1)])

    def test_paused(self) -> None:
        """A consumer whose connection is full takes nothing, and all of it afterwards."""
        subscription = self.subscribe()
        subscription.paused = True
        self.queues.update(X, subscription)
        self.send(b"1", b"2")
        self.assertEqual(self.receiver.bodies, [])
        subscription.paused = False
        self.queues.update(X, subscription)
        self.assertEqual(self.receiver.bodies, [b"1", b"2"])

    def test_paused_within(self) -> None:
        """A backlog stops where the connection is full, in the middle of it."""
        self.send(b"1", b"2", b"3")

        def pause(subscription: Subscription, _: object) -> None:
            if len(self.receiver.deliveries) == 2:
                subscription.paused = True
                self.queues.update(X, subscription)

        self.receiver.on_delivery = pause
        self.subscribe()
        self.assertEqual(self.receiver.bodies, [b"1", b"2"])
        self.assertEqual(self.queues.messages, 1)

    def test_nothing_encoded_stays(self) -> None:
        """What waits for an ACK does not hold the frame beside the message."""
        self.receiver.on_delivery = lambda _, delivery: delivery.message.template
        subscription = self.subscribe("client")
        self.send(b"1")
        (delivery,) = subscription.unacked.values()
        self.assertIsNone(delivery.message._template)


class CallBackTests(QueuesTestCase):
    """Subscribers call back from within a delivery."""

    def test_dying_receiver(self) -> None:
        """A session that ends while it gets a message gives it back, to the next one."""
        dying, other = Receiver("dying"), Receiver("other")
        dying.on_delivery = lambda subscription, _: self.queues.unsubscribe(X, subscription)
        self.send(b"1", b"2")
        self.subscribe("client", 10, to=dying)
        self.assertEqual(dying.bodies, [b"1"])
        self.subscribe(to=other)
        self.assertEqual(self.received(other), [(b"1", 2), (b"2", 1)])

    def test_depth(self) -> None:
        """However many sessions die of a message, the stack is no deeper."""
        self.queues = Queues(Limits(max_deliveries=0), lambda: inf, self.clock.seconds)
        dying = sys.getrecursionlimit()
        self.receiver.on_delivery = lambda subscription, _: self.queues.unsubscribe(X, subscription)
        for _ in range(dying):
            self.subscribe("client", 1)
        self.send(b"1")
        self.assertEqual(self.received(self.receiver)[-1], (b"1", dying))
        self.assertEqual(self.queues.messages, 1)

    def test_send_within(self) -> None:
        """What is sent from within a delivery comes after what is on its way."""

        def answer(*_: object) -> None:
            if len(self.receiver.deliveries) == 1:
                self.send(b"3")

        self.receiver.on_delivery = answer
        self.send(b"1", b"2")
        self.subscribe()
        self.assertEqual(self.receiver.bodies, [b"1", b"2", b"3"])

    def test_held_back(self) -> None:
        """Within the block nothing is delivered, and after it everything."""
        self.subscribe()
        with self.queues.held_back():
            with self.queues.held_back():
                self.send(b"1")
            self.send(b"2")
            self.assertEqual(self.receiver.bodies, [])
        self.assertEqual(self.receiver.bodies, [b"1", b"2"])


class BoundTests(QueuesTestCase):
    """RS-2: what queues hold is bounded, and what was accepted is not lost for it."""

    limits = Limits(queue_messages=2, queue_bytes=3 * (MESSAGE_OVERHEAD + 10), max_deliveries=2)

    def test_messages(self) -> None:
        """A full queue refuses, until there is room."""
        self.send(b"1", b"2")
        self.assert_refused("queue-full", message_to(X))
        subscription = self.subscribe("client", 1)
        self.assert_refused("queue-full", message_to(X))
        self.settle(subscription, b"1")
        self.send(b"3")
        self.settle(subscription, b"2")
        self.assertEqual(self.receiver.bodies, [b"1", b"2", b"3"])

    def test_bytes(self) -> None:
        """The bytes of all queues are bounded together, those that were delivered included."""
        self.send(b"x" * 10)
        self.subscribe("client", 1)
        self.send(b"x" * 10, path="/queue/y")
        self.assert_refused("queue-full", message_to("/queue/z", b"x" * 11))
        self.send(b"x" * 10, path="/queue/z")
        self.assert_refused("queue-full", message_to("/queue/z", b""))
        self.assertEqual(self.queues.size, 3 * (MESSAGE_OVERHEAD + 10))

    def test_together(self) -> None:
        """Messages of one transaction are refused together, when one of them does not fit."""
        self.assert_refused("queue-full", *[message_to(X)] * 3)
        self.assert_refused("queue-full", *[message_to(f"/queue/{n}", b"x" * 10) for n in range(4)])
        self.assertEqual(len(self.queues), 0)

    def test_accepted_before(self) -> None:
        """What a transaction acknowledges makes room for what it sends."""
        subscription = self.subscribe("client", 2)
        self.send(b"1", b"2")
        held = list(subscription.unacked.values())
        message = message_to(X)
        self.assert_refused("queue-full", message)
        self.queues.check([(X, message)], [(X, held[0])])

    def test_nothing_kept(self) -> None:
        """What is gone at once is not bounded by what others keep."""
        for path in ("/queue/1", "/queue/2", "/queue/3"):
            self.send(b"x" * 10, path=path)
        self.assert_refused("queue-full", message_to(X))
        self.subscribe()
        self.send(b"1", b"2", b"3")
        self.assertEqual(self.receiver.bodies, [b"1", b"2", b"3"])

    def test_expired_make_room(self) -> None:
        """A queue that is full of what has expired takes new messages."""
        self.send(b"1", b"2", expires=5.0)
        self.clock.advance(5)
        self.send(b"3")
        self.subscribe()
        self.assertEqual(self.receiver.bodies, [b"3"])

    def test_destinations(self) -> None:
        """No more queues are made than there is room for, several at once neither."""
        self.room = 1
        self.assert_refused("limit", message_to("/queue/1"), message_to("/queue/2"))
        self.room = 0
        self.assert_refused("limit", message_to(X))
        self.assertEqual(self.assertRaises(Refused, self.subscribe).code, "limit")
        self.assertEqual(len(self.queues), 0)

    def test_share_of_bytes(self) -> None:
        """RS-2: one user's messages take at most half of the bytes, whatever queues they fill."""
        self.queues = Queues(Limits(queue_bytes=10_000), lambda: inf, self.clock.seconds)
        for n in range(100):
            message = message_to(f"/queue/{n}", sender="mallory")
            try:
                self.queues.check([(message.destination.path, message)])
            except Refused as refused:
                self.assertEqual(refused.code, "queue-full")
                break
            self.queues.put(message.destination.path, message)
        self.assertLessEqual(self.queues.size, 5_000)
        for sender in (None, "alice"):
            message = message_to("/queue/0", sender=sender)
            self.queues.check([("/queue/0", message)])
        for n in range(100):
            self.queues.subscribe(f"/queue/{n}", self.receiver.subscription(f"/queue/{n}"))
        again = message_to("/queue/y", b"x" * 4_000, sender="mallory")
        self.queues.check([("/queue/y", again)])

    def test_share_of_destinations(self) -> None:
        """RS-2: one user makes at most half of the queues; those of his dead letters count, too."""
        limit = 10
        limits = Limits(max_deliveries=1)
        self.queues = Queues(limits, lambda: limit - len(self.queues), self.clock.seconds)
        for n in range(limit):
            path = f"/queue/{n}"
            message = message_to(path, sender="mallory", expires=self.clock.seconds() + 1)
            try:
                self.queues.check([(path, message)])
            except Refused:
                break
            self.queues.put(path, message)
            self.clock.advance(1)
            consumer = self.receiver.subscription(path)
            self.queues.subscribe(path, consumer)
            self.queues.unsubscribe(path, consumer)
        self.assertEqual(len(self.queues), limit // 2 - 1)
        self.queues.check([("/queue/x", message_to("/queue/x", sender="alice"))])

    def test_known_destination(self) -> None:
        """A queue that is there needs no more room."""
        self.send(b"1")
        self.room = 0
        self.send(b"2")
        self.subscribe()
        self.assertEqual(self.receiver.bodies, [b"1", b"2"])

    def test_no_bounds(self) -> None:
        """A limit of 0 is none."""
        none = Limits(queue_messages=0, queue_bytes=0, max_deliveries=0)
        self.queues = Queues(none, lambda: inf, self.clock.seconds)
        self.send(*[b"x"] * 20)
        for _ in range(20):
            self.queues.unsubscribe(X, self.subscribe("client", 1))
        self.assertEqual(self.queues.messages, 20)

    def test_long_name(self) -> None:
        """A name that leaves none for its dead-letter queue is refused before it is needed."""
        longest = "/queue/" + "é" * 122
        self.assertEqual(len(longest.encode()), 251)
        self.send(b"1", path=longest, expires=1.0)
        self.clock.advance(1)
        self.subscribe(path=longest)
        self.subscribe(path="/queue/dlq." + "é" * 122)
        self.assertEqual(self.receiver.bodies, [b"1"])
        self.assert_refused("bad-destination", message_to(longest + "x"))

    def test_forgotten(self) -> None:
        """A queue without consumers and messages is forgotten, whatever was last."""
        subscription = self.subscribe("client")
        self.send(b"1")
        self.settle(subscription, b"1")
        self.assertEqual(len(self.queues), 1)
        self.queues.unsubscribe(X, subscription)
        self.assertEqual((len(self.queues), self.queues.size), (0, 0))
        self.send(b"1")
        self.queues.unsubscribe(X, self.subscribe())
        self.assertEqual((len(self.queues), self.queues.size), (0, 0))

    def test_drop(self) -> None:
        """A queue that is thrown away leaves nothing, and one that is not there needs nothing."""
        self.send(b"1", b"2")
        self.queues.drop(X)
        self.queues.drop("/queue/y")
        self.assertEqual((len(self.queues), self.queues.size, self.queues.lost), (0, 0, 0))


class DeadLetterTests(QueuesTestCase):
    """What nobody takes is put aside, with the reason."""

    limits = Limits(queue_messages=2, max_deliveries=2)

    def assert_letter(self, body: bytes, reason: str) -> None:
        """The dead-letter queue holds exactly that message, as new."""
        receiver = Receiver("undertaker")
        self.queues.unsubscribe(DEAD, self.subscribe(path=DEAD, to=receiver))
        self.assertEqual(receiver.last.message.headers["dlq-reason"], reason)
        self.assertEqual(self.received(receiver), [(body, 1)])

    def test_too_often(self) -> None:
        """A message that came back as often as it may goes to its dead-letter queue."""
        subscription = self.subscribe("client", 1)
        self.send(b"bad", b"good")
        self.settle(subscription, b"bad", accepted=False)
        self.settle(subscription, b"bad", accepted=False)
        self.assertEqual(self.received(self.receiver), [(b"bad", 1), (b"bad", 2), (b"good", 1)])
        self.assert_letter(b"bad", "max-deliveries")

    def test_sessions_that_end(self) -> None:
        """A message of which sessions die does not kill sessions for ever."""
        self.send(b"bad")
        for _ in range(2):
            self.queues.unsubscribe(X, self.subscribe("client", 1))
        self.subscribe("client", 1)
        self.assertEqual(self.received(self.receiver), [(b"bad", 1), (b"bad", 2)])
        self.assert_letter(b"bad", "max-deliveries")

    def test_headers(self) -> None:
        """A dead letter says why and from where, and keeps what it had."""
        message = message_to("/queue/a/b", b"x", headers={"type": "t"}, expires=1.0)
        self.queues.put("/queue/a/b", message)
        self.clock.advance(1)
        self.subscribe(path="/queue/a/b")
        self.subscribe(path="/queue/dlq.a/b")
        letter = self.receiver.last.message
        self.assertEqual(
            letter.headers, {"type": "t", "dlq-reason": "expired", "dlq-origin": "/queue/a/b"}
        )
        self.assertEqual(letter.shown, "/queue/dlq.a/b")
        self.assertEqual(letter.message_id, message.message_id)

    def test_expired(self) -> None:
        """What has expired is never delivered, the rest is."""
        self.send(b"old", expires=5.0)
        self.send(b"new", expires=50.0)
        self.clock.advance(5)
        self.subscribe()
        self.assertEqual(self.receiver.bodies, [b"new"])
        self.assert_letter(b"old", "expired")

    def test_expired_unmet(self) -> None:
        """A message that has expired leaves a queue that nobody consumes, too, when it is used."""
        self.send(b"old", expires=5.0)
        self.clock.advance(5)
        self.send(b"new")
        self.assert_letter(b"old", "expired")
        self.assertEqual(self.queues.messages, 1)

    def test_expired_when_returned(self) -> None:
        """What expires while somebody holds it is not delivered again."""
        subscription = self.subscribe("client", 1)
        self.send(b"old", expires=5.0)
        self.clock.advance(5)
        self.settle(subscription, b"old", accepted=False)
        self.assertEqual(self.received(self.receiver), [(b"old", 1)])
        self.assert_letter(b"old", "expired")

    def test_stay(self) -> None:
        """A dead letter goes nowhere else, however often it comes back."""
        self.send(b"bad", path=DEAD)
        for count in range(1, 5):
            self.queues.unsubscribe(DEAD, self.subscribe("client", 1, path=DEAD))
            self.assertEqual(self.received(self.receiver), [(b"bad", count)])
        self.assertEqual(self.queues.messages, 1)

    def test_expired_in_dead_letters(self) -> None:
        """What is sent to a dead-letter queue, and expires, is gone."""
        self.send(b"old", path=DEAD, expires=1.0)
        self.clock.advance(1)
        self.subscribe(path=DEAD)
        self.assertEqual((self.receiver.bodies, self.queues.size), ([], 0))

    def test_waiting_undertaker(self) -> None:
        """A dead letter goes at once to who waits for it."""
        self.subscribe(path=DEAD)
        self.send(b"old", expires=0.0)
        other = Receiver("other")
        self.subscribe(to=other)
        self.assertEqual((self.receiver.bodies, other.bodies), ([b"old"], []))

    def test_full(self) -> None:
        """RS-2: a full dead-letter queue loses its oldest, which is counted and logged once."""
        events: list[dict[str, object]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        for number in range(5):
            self.send(b"%d" % number, expires=0.0)
            self.queues.unsubscribe(X, self.subscribe())
        self.assertEqual(self.queues.lost, 3)
        self.assertEqual([event["queue"] for event in events], [DEAD])
        self.subscribe(path=DEAD)
        self.assertEqual(self.receiver.bodies, [b"3", b"4"])
        self.assertEqual(self.queues.size, 0)

    def test_full_of_delivered(self) -> None:
        """RS-2: where all dead letters are with a consumer, the new one is lost."""
        self.subscribe("client", 0, path=DEAD)
        for number in range(3):
            self.send(b"%d" % number, expires=0.0)
            self.queues.unsubscribe(X, self.subscribe())
        self.assertEqual((self.queues.lost, self.queues.messages), (1, 2))
        self.assertEqual(self.receiver.bodies, [b"0", b"1"])

    def test_no_room(self) -> None:
        """RS-2: where no dead-letter queue can be made, the message is lost, and counted."""
        self.send(b"old", b"older", expires=1.0)
        self.clock.advance(1)
        self.room = 0
        self.subscribe()
        self.assertEqual((self.queues.lost, self.queues.size), (2, 0))

    def test_temporary(self) -> None:
        """A temporary queue has no dead letters: what comes back stays, what expires is gone."""
        key = ("s1", "/temp-queue/x")
        self.queues.put(key, message_to("/temp-queue/x", b"stays"))
        self.queues.put(key, message_to("/temp-queue/x", b"goes", expires=1.0))
        for _ in range(4):
            subscription = self.receiver.subscription("/temp-queue/x", "client", 1)
            self.queues.subscribe(key, subscription)
            self.queues.unsubscribe(key, subscription)
        self.assertEqual(self.received(self.receiver)[-1], (b"stays", 4))
        self.clock.advance(1)
        self.queues.subscribe(key, self.receiver.subscription("/temp-queue/x"))
        self.assertEqual(self.received(self.receiver), [(b"stays", 5)])
        self.assertEqual((self.queues.size, len(self.queues)), (0, 1))
