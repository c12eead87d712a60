"""Tests of stompauth.broker.fanout."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker import fanout
from stompauth.broker.fanout import SLICE, FanOuts, fan_out
from stompauth.broker.subscription import BEGUN, SHORT, Delivery, Subscription
from tests.applications import Application
from tests.broker.receiver import Receiver, message_to


class Taking:
    """An outlet that keeps what it gets, behind what it has begun."""

    def __init__(self, *begun: bytes) -> None:
        self.begun = list(begun)
        self.taken: list[bytes] = []

    def write(self, frame: bytes) -> None:
        self.taken.append(frame)


class FanOutTests(SynchronousTestCase):
    """One message to many."""

    def setUp(self) -> None:
        self.receiver = Receiver()

    def subscription(self, ack: str = "auto") -> Subscription:
        subscription = self.receiver.subscription("/topic/x", ack)
        subscription.active = True
        return subscription

    def test_to_all(self) -> None:
        """Every subscription gets it, in order, and those that acknowledge hold it."""
        subscriptions = [self.subscription(), self.subscription("client"), self.subscription()]
        message = message_to("/topic/x")
        fan_out(message, subscriptions, 10)
        self.assertEqual([got for got, _ in self.receiver.deliveries], subscriptions)
        self.assertEqual([len(each.unacked) for each in subscriptions], [0, 1, 0])
        held = subscriptions[1].unacked[message.message_id]
        self.assertEqual((held.message.message_id, held.count), (message.message_id, 1))

    def test_held_without_body(self) -> None:
        """RS-2: what is not acknowledged yet costs no more than its id, however long it is."""
        subscription = self.subscription("client")
        message = message_to("/topic/x", b"x" * 60_000, headers={"a": "b"})
        fan_out(message, [subscription], 0)
        self.assertEqual(self.receiver.bodies, [message.body])
        held = subscription.unacked[message.message_id].message
        self.assertEqual((held.body, held.headers), (b"", {}))

    def test_inactive(self) -> None:
        """A subscription that ended while others got the message does not get it."""
        first, second = self.subscription(), self.subscription()

        def end(*_: object) -> None:
            second.active = False

        self.receiver.on_delivery = end
        fan_out(message_to("/topic/x"), [first, second], 10)
        self.assertEqual([got for got, _ in self.receiver.deliveries], [first])

    def test_same_octets(self) -> None:
        """Who gets the same octets gets them by its outlet, or behind what that has begun."""
        subscriptions = [self.subscription() for _ in range(3)]
        outlets = [Taking(), Taking(), Taking(b"before")]
        for subscription, outlet in zip(subscriptions, outlets, strict=True):
            subscription.audience = "1.2 0"
            subscription.outlet = outlet

        def encode(_: object, delivery: Delivery) -> None:
            delivery.message.framed, delivery.message.framed_for = framed, "1.2 0"

        self.receiver.on_delivery = encode
        framed = b"x" * SHORT
        fan_out(message_to("/topic/x"), subscriptions, 0)
        self.assertEqual([got for got, _ in self.receiver.deliveries], subscriptions[:1])
        self.assertEqual([outlet.taken for outlet in outlets], [[], [framed], []])
        self.assertEqual(outlets[2].begun, [b"before", framed])
        self.assertEqual(self.receiver.handed, 2)
        framed += b"x"
        fan_out(message_to("/topic/x"), subscriptions, 0)
        self.assertEqual([outlet.taken[-1:] for outlet in outlets], [[], [framed], [framed]])

    def test_begun_is_bounded(self) -> None:
        """RS-1: no more than so many are appended to what has begun."""
        first, second = self.subscription(), self.subscription()
        first.audience = second.audience = "1.2 0"
        second.outlet = outlet = Taking(b"before")

        def encode(_: object, delivery: Delivery) -> None:
            delivery.message.framed, delivery.message.framed_for = b"x", "1.2 0"

        self.receiver.on_delivery = encode
        for _ in range(2 * BEGUN):
            fan_out(message_to("/topic/x"), [first, second], 0)
        self.assertEqual((len(outlet.begun), len(outlet.taken)), (BEGUN, BEGUN + 1))

    def test_overflow(self) -> None:
        """RS-2: a subscription that acknowledges nothing is told, and holds no more than it may."""
        slow, fast = self.subscription("client-individual"), self.subscription("client")
        for _ in range(3):
            fan_out(message_to("/topic/x"), [slow, fast], 2)
            fast.unacked.clear()
        self.assertEqual(self.receiver.overflows, [slow])
        self.assertEqual(len(slow.unacked), 2)
        self.assertEqual([got for got, _ in self.receiver.deliveries].count(fast), 3)

    def test_no_limit(self) -> None:
        """A limit of 0 is none."""
        slow = self.subscription("client")
        for _ in range(3):
            fan_out(message_to("/topic/x"), [slow], 0)
        self.assertEqual(len(slow.unacked), 3)

    def test_nothing_encoded_stays(self) -> None:
        """What waits for an ACK does not hold the frame beside the message."""
        message = message_to("/topic/x")
        self.receiver.on_delivery = lambda _, delivery: delivery.message.template
        fan_out(message, [self.subscription("client")], 10)
        self.assertIsNone(message._template)


class FanOutsTests(SynchronousTestCase):
    """RS-3: a message to very many is delivered in slices, and nothing overtakes it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.receiver = Receiver()
        self.fan_outs = FanOuts(lambda: self.clock, 10)

    def subscriptions(self, number: int) -> list[Subscription]:
        subscriptions = [self.receiver.subscription("/topic/x", "auto") for _ in range(number)]
        for subscription in subscriptions:
            subscription.active = True
        return subscriptions

    def test_few(self) -> None:
        """A message to few is delivered at once."""
        self.assertIsNone(self.fan_outs.start(message_to("/topic/x"), self.subscriptions(SLICE)))
        self.assertEqual(len(self.receiver.deliveries), SLICE)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many(self) -> None:
        """A message to many takes as many turns as it has slices, and then it is done."""
        done = self.fan_outs.start(message_to("/topic/x"), self.subscriptions(2 * SLICE + 1))
        assert done is not None
        for turn in range(1, 3):
            self.assertEqual(len(self.receiver.deliveries), turn * SLICE)
            self.assertNoResult(done)
            # Clock.advance() would make several turns of it.
            (call,) = self.clock.getDelayedCalls()
            self.clock.calls.clear()
            call.func(*call.args)
        self.assertEqual(len(self.receiver.deliveries), 2 * SLICE + 1)
        self.successResultOf(done)
        self.assertEqual((len(self.fan_outs), self.clock.getDelayedCalls()), (0, []))

    def test_order(self) -> None:
        """A later message, also one to few, waits for an earlier one."""
        many, few = self.subscriptions(SLICE + 1), self.subscriptions(1)
        first, second = message_to("/topic/x"), message_to("/topic/x")
        self.fan_outs.start(first, many)
        done = self.fan_outs.start(second, few)
        assert done is not None
        self.assertNoResult(done)
        self.clock.advance(0)
        self.successResultOf(done)
        order = [delivery.message for _, delivery in self.receiver.deliveries]
        self.assertEqual(order, [first] * (SLICE + 1) + [second])

    def test_ended_meanwhile(self) -> None:
        """Who has unsubscribed by his turn gets nothing."""
        subscriptions = self.subscriptions(SLICE + 2)
        self.fan_outs.start(message_to("/topic/x"), subscriptions)
        subscriptions[-1].active = False
        self.clock.advance(0)
        self.assertEqual(len(self.receiver.deliveries), SLICE + 1)

    def test_sender_leaves(self) -> None:
        """A sender that does not wait for the end takes nothing from the receivers."""
        done = self.fan_outs.start(message_to("/topic/x"), self.subscriptions(SLICE + 1))
        assert done is not None
        done.cancel()
        self.clock.advance(0)
        self.assertEqual(len(self.receiver.deliveries), SLICE + 1)
        self.failureResultOf(done)

    def test_no_clock(self) -> None:
        """A broker without a clock delivers all at once."""
        fan_outs = FanOuts(lambda: None, 10)
        self.assertIsNone(fan_outs.start(message_to("/topic/x"), self.subscriptions(SLICE + 1)))
        self.assertEqual(len(self.receiver.deliveries), SLICE + 1)

    def test_in_an_application(self) -> None:
        """The sender's receipt comes when all have it; others are served between the slices."""
        self.patch(fanout, "SLICE", 3)
        self.patch(fanout, "STEP", 3)
        application = Application()
        subscriptions = []
        for n in range(4):
            client = application.connect(f"user{n}")
            client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
            subscriptions.append(client)
        sender, other = application.connect("alice"), application.connect("bob")
        for body in (b"1", b"2"):
            sender.send("SEND", body, destination="/topic/rooms/lobby", receipt="r")
        self.assertEqual(sender.frames(), [])
        other.send("SEND", destination="/queue/work/x", receipt="o")
        self.assertEqual(other.frame().command, "RECEIPT")
        application.clock.pump([0] * 4)
        self.assertEqual([f.command for f in sender.frames()], ["RECEIPT", "RECEIPT"])
        for client in subscriptions:
            bodies = [frame.body for frame in client.frames()]
            self.assertEqual(bodies, [b"1", b"2"])
