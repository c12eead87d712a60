"""Tests of stompauth.broker.fanout."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker.fanout import fan_out
from stompauth.broker.subscription import Subscription
from tests.broker.receiver import Receiver, message_to


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
        self.assertEqual((held.message, held.count), (message, 1))

    def test_inactive(self) -> None:
        """A subscription that ended while others got the message does not get it."""
        first, second = self.subscription(), self.subscription()

        def end(*_: object) -> None:
            second.active = False

        self.receiver.on_delivery = end
        fan_out(message_to("/topic/x"), [first, second], 10)
        self.assertEqual([got for got, _ in self.receiver.deliveries], [first])

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
