"""Tests of stompauth.broker.queue."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker.queue import Queue
from stompauth.broker.subscription import Delivery
from tests.broker.receiver import Receiver, message_to


class WaitingTests(SynchronousTestCase):
    """What waits in a queue."""

    def setUp(self) -> None:
        self.queue = Queue("/queue/x", None)

    def put(self, *bodies: bytes) -> None:
        for body in bodies:
            self.queue.put(message_to("/queue/x", body))

    def take_all(self) -> list[bytes]:
        bodies = []
        while self.queue.first() is not None:
            bodies.append(self.queue.take().message.body)
        return bodies

    def test_order(self) -> None:
        """First in, first out."""
        self.put(b"1", b"2", b"3")
        self.assertEqual(self.take_all(), [b"1", b"2", b"3"])

    def test_old_place(self) -> None:
        """What comes back stands where it stood, and counts one delivery more."""
        self.put(b"1", b"2", b"3", b"4")
        first, second, third = (self.queue.take() for _ in range(3))
        self.queue.put_back(third)
        self.queue.put_back(first)
        self.put(b"5")
        self.assertEqual((second.count, self.queue.first().count), (1, 2))
        self.assertEqual(self.take_all(), [b"1", b"3", b"4", b"5"])

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.sampled_from(["put", "take", "return first", "return last"])))
    def test_always_in_order(self, steps: list[str]) -> None:
        """Whatever is taken and comes back, the oldest that waits is next."""
        queue = Queue("/queue/x", None)
        waiting: list[int] = []
        taken: list[Delivery] = []
        for number, step in enumerate(steps):
            if step == "put":
                queue.put(message_to("/queue/x", b"%d" % number))
                waiting.append(number)
            elif step == "take" and waiting:
                taken.append(queue.take())
                self.assertEqual(int(taken[-1].message.body), waiting.pop(0))
            elif step.startswith("return") and taken:
                delivery = taken.pop(0 if step == "return first" else -1)
                queue.put_back(delivery)
                waiting = sorted([*waiting, int(delivery.message.body)])
            self.assertEqual(queue.held, len(waiting) + len(taken))


class ConsumerTests(SynchronousTestCase):
    """Who takes from a queue."""

    def setUp(self) -> None:
        self.queue = Queue("/queue/x", None)
        self.receiver = Receiver()

    def test_ready(self) -> None:
        """Only consumers with credit are ready, and one that gets some again is last."""
        subscriptions = [self.receiver.subscription("/queue/x", "client", 1) for _ in range(3)]
        for subscription in subscriptions:
            self.queue.add_consumer(subscription)
        first = subscriptions[0]
        first.unacked["1"] = Delivery(message_to("/queue/x"))
        self.queue.update(first)
        self.assertEqual(list(self.queue.ready), subscriptions[1:])
        first.unacked.clear()
        self.queue.update(first)
        self.assertEqual(list(self.queue.ready), [*subscriptions[1:], first])
        self.queue.update(subscriptions[1])
        self.assertEqual(list(self.queue.ready), [*subscriptions[1:], first])

    def test_keeps_nothing(self) -> None:
        """Only a queue whose consumers all acknowledge by themselves keeps nothing."""
        automatic = self.receiver.subscription("/queue/x")
        careful = self.receiver.subscription("/queue/x", "client")
        self.assertFalse(self.queue.keeps_nothing)
        self.queue.add_consumer(automatic)
        self.assertTrue(self.queue.keeps_nothing)
        self.queue.add_consumer(careful)
        self.assertFalse(self.queue.keeps_nothing)
        self.queue.remove_consumer(careful)
        self.assertTrue(self.queue.keeps_nothing)
        self.queue.remove_consumer(automatic)
        self.assertFalse(self.queue.keeps_nothing)

    def test_idle(self) -> None:
        """A queue is idle when nobody consumes it and it is answerable for nothing."""
        self.assertTrue(self.queue.is_idle)
        subscription = self.receiver.subscription("/queue/x")
        self.queue.add_consumer(subscription)
        self.assertFalse(self.queue.is_idle)
        self.queue.put(message_to("/queue/x"))
        self.queue.remove_consumer(subscription)
        self.queue.take()
        self.assertFalse(self.queue.is_idle)
        self.queue.held -= 1
        self.assertTrue(self.queue.is_idle)
