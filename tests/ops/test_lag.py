"""Tests of stompauth.ops.lag."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.ops.lag import INTERVAL, ReactorLag


class ReactorLagTests(SynchronousTestCase):
    """How late the reactor calls."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.seen: list[float] = []
        self.lag = ReactorLag(self.clock, self.seen.append)
        self.lag.start()

    def test_late(self) -> None:
        """It is what a turn took longer than the time between two looks."""
        for seconds in (INTERVAL, INTERVAL + 0.5, INTERVAL):
            self.clock.advance(seconds)
        self.assertEqual(self.seen, [0, 0.5, 0])

    def test_stop(self) -> None:
        """After the stop nobody looks, and no timer is left."""
        self.lag.stop()
        self.lag.stop()
        self.clock.advance(10)
        self.assertEqual((self.seen, self.clock.getDelayedCalls()), ([], []))
