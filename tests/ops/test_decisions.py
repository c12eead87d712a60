"""Tests of stompauth.ops.decisions."""

from __future__ import annotations

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from stompauth.audit import audit
from stompauth.ops.decisions import OTHER, BoundedCounts, DecisionCounts


class BoundedCountsTests(SynchronousTestCase):
    """LG-3: what is counted by label has a bound."""

    def test_bound(self) -> None:
        """What comes after so many labels counts together; those that are known go on."""
        counts = BoundedCounts(limit=2)
        for label in ("a", "b", "c", "d", "a"):
            counts.add(label)
        self.assertEqual(counts.items(), [("a", 2), ("b", 1), (OTHER, 2)])


class DecisionCountsTests(SynchronousTestCase):
    """Audit events are counted."""

    def setUp(self) -> None:
        self.counts = DecisionCounts()
        self.counts.start()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        if self.counts in globalLogPublisher._observers:
            self.counts.stop()

    def test_reasons(self) -> None:
        """By event, and by reason where there is one; who it was about is not kept."""
        for reason in ("rate", "rate", "origin"):
            audit("ticket-refused", address="192.0.2.1", reason=reason)
        audit("ticket-issued", user="alice", address="192.0.2.1")
        self.assertEqual(self.counts.of("ticket-refused"), [("origin", 1), ("rate", 2)])
        self.assertEqual(self.counts.of("ticket-issued"), [("", 1)])
        self.assertEqual(self.counts.of("revoked"), [])

    def test_stopped(self) -> None:
        """After the stop nothing is counted any more."""
        self.counts.stop()
        audit("ticket-issued", user="alice", address="192.0.2.1")
        self.assertEqual(self.counts.of("ticket-issued"), [])
