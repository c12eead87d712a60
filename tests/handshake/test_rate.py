"""Tests of stompauth.handshake.rate."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.handshake.rate import TokenBuckets


class TokenBucketsTests(SynchronousTestCase):
    """TK-12: a burst is let through, then a rate, for each key apart."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.buckets = TokenBuckets(self.clock, rate=2, burst=4, max_keys=3)

    def test_burst_then_rate(self) -> None:
        """A full bucket gives its burst, then one token per interval."""
        self.assertEqual([self.buckets.take("a") for _ in range(5)], [True] * 4 + [False])
        self.clock.advance(0.5)
        self.assertEqual([self.buckets.take("a") for _ in range(2)], [True, False])

    def test_level_is_bounded(self) -> None:
        """Waiting long gains no more than a burst."""
        self.buckets.take("a")
        self.clock.advance(1000)
        self.assertEqual([self.buckets.take("a") for _ in range(5)], [True] * 4 + [False])

    def test_keys_are_apart(self) -> None:
        """One key's use is not another's."""
        while self.buckets.take("a"):
            pass
        self.assertTrue(self.buckets.take("b"))

    def test_retry_after(self) -> None:
        """It says in how many whole seconds a token is there, and then it is."""
        slow = TokenBuckets(self.clock, rate=0.1, burst=1)
        slow.take("a")
        self.clock.advance(2)
        self.assertTrue(slow.is_empty("a"))
        self.assertEqual(slow.retry_after("a"), 8)
        self.clock.advance(8)
        self.assertTrue(slow.take("a"))

    def test_looking_takes_nothing(self) -> None:
        """Asking whether a bucket is empty leaves it as it is."""
        for _ in range(10):
            self.assertFalse(self.buckets.is_empty("a"))
        self.assertEqual(len(self.buckets), 0)

    def test_bound(self) -> None:
        """TK-12: the table is bounded; the key longest unused is forgotten."""
        for key in "aaaabcd":
            self.buckets.take(key)
        self.assertEqual(len(self.buckets), 3)
        self.assertTrue(self.buckets.take("a"))

    def test_full_again(self) -> None:
        """What nobody uses any more takes no memory: a bucket that is full again is forgotten."""
        buckets = TokenBuckets(self.clock, rate=5, burst=10)
        for number in range(1000):
            buckets.take(str(number))
            self.clock.advance(0.01)
        self.assertLess(len(buckets), 25)
        self.assertTrue(all(buckets.take("0") for _ in range(10)))
        self.assertFalse(buckets.take("0"))

    def test_no_limit(self) -> None:
        """A rate of 0 is no limit."""
        buckets = TokenBuckets(self.clock, rate=0, burst=0)
        self.assertTrue(all(buckets.take("a") for _ in range(100)))
        self.assertFalse(buckets.is_empty("a"))

    def test_clock_set_back(self) -> None:
        """A wall clock that is set back locks nobody out."""
        self.clock.advance(3600)
        for _ in range(5):
            self.buckets.take("a")
        self.clock.rightNow = 0
        self.assertFalse(self.buckets.is_empty("a"))
        self.assertEqual([self.buckets.take("a") for _ in range(5)], [True] * 4 + [False])
