"""Tests of stompauth.broker.subscription."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker.subscription import NOTHING, Delivery
from tests.broker.receiver import Receiver, message_to


class SubscriptionTests(SynchronousTestCase):
    """What a subscription may still get."""

    def test_credit(self) -> None:
        """Credit ends where as many messages are held as were asked for; 0 asks for no end."""
        for ack, prefetch, held, credit in (
            ("auto", 0, 0, True),
            ("auto", 1, 0, True),
            ("client", 2, 1, True),
            ("client", 2, 2, False),
            ("client-individual", 1, 0, True),
            ("client-individual", 1, 1, False),
            ("client", 0, 1000, True),
        ):
            subscription = Receiver().subscription("/queue/x", ack, prefetch)
            for number in range(held):
                subscription.unacked[str(number)] = Delivery(message_to("/queue/x"))
            self.assertEqual(subscription.has_credit, credit, (ack, prefetch, held))

    def test_paused(self) -> None:
        """A paused subscription has no credit, in any mode."""
        for ack in ("auto", "client"):
            subscription = Receiver().subscription("/queue/x", ack, 0)
            subscription.paused = True
            self.assertFalse(subscription.has_credit)

    def test_identity(self) -> None:
        """Two sessions may ask for the very same and have two subscriptions."""
        receiver = Receiver()
        first, second = receiver.subscription("/queue/x"), receiver.subscription("/queue/x")
        self.assertNotEqual(first, second)
        self.assertEqual(len({first, second}), 2)

    def test_auto_holds_nothing(self) -> None:
        """Without acknowledgements nothing can be held; with them each has its own table."""
        delivery = Delivery(message_to("/queue/x"))
        receiver = Receiver()
        auto = receiver.subscription("/queue/x", "auto", 0)
        for put in (
            lambda: auto.unacked.__setitem__("1", delivery),
            lambda: auto.unacked.setdefault("1", delivery),
            lambda: auto.unacked.update({"1": delivery}),
        ):
            self.assertRaises(TypeError, put)
        self.assertEqual(len(NOTHING), 0)
        first, second = (receiver.subscription("/queue/x", "client", 0) for _ in range(2))
        first.unacked["1"] = delivery
        self.assertEqual(second.unacked, {})
