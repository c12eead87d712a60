"""Tests of stompauth.operations.watch."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stompauth.audit import audit
from stompauth.operations.watch import MAX_EVENTS, Watch
from tests.applications import Application


class WatchTests(SynchronousTestCase):
    """A watch over an application in memory."""

    def setUp(self) -> None:
        self.application = Application()
        self.clock = self.application.clock
        self.reports: list[Any] = []
        self.watch = Watch(self.application.stompauth, self.clock, self.reports.append)
        self.addCleanup(self.watch.stop)

    def test_rates(self) -> None:
        """Rates are what a counter has risen by since the last report, per second."""
        counters = self.application.stompauth.counters
        counters.messages_received = 1000
        self.watch.start()
        counters.messages_received += 7
        self.clock.advance(1)
        counters.bytes_sent += 4096
        self.clock.advance(2)
        self.assertEqual(self.reports[0]["rates"]["messages_received"], 7)
        self.assertEqual(self.reports[1]["rates"]["messages_received"], 0)
        self.assertEqual(self.reports[1]["rates"]["bytes_sent"], 2048)

    def test_totals(self) -> None:
        """A report has the numbers of sessions and of what the broker holds."""
        alice = self.application.connect()
        alice.send("SEND", b"x", destination="/queue/work/1")
        self.watch.start()
        self.clock.advance(1)
        (report,) = self.reports
        self.assertEqual((report["sessions"], report["broker"]["queue_messages"]), (1, 1))
        self.assertEqual(report["parts"]["serving"], True)

    def test_flood(self) -> None:
        """However much is denied, so many events are in a report; the others are counted."""
        self.watch.start()
        for number in range(MAX_EVENTS + 30):
            audit("ticket-refused", address="192.0.2.1", reason=f"rate {number}")
        self.clock.advance(1)
        (report,) = self.reports
        self.assertEqual((len(report["events"]), report["missed"]), (MAX_EVENTS, 30))

    def test_text(self) -> None:
        """What comes from peers is escaped and cut."""
        self.watch.start()
        audit("ticket-refused", address="192.0.2.1", reason="\x1b[31m\u202e" + "x" * 100_000)
        self.clock.advance(1)
        text = self.reports[0]["events"][0]["text"]
        self.assertTrue(text.isprintable())
        self.assertLess(len(text), 600)

    def test_stop(self) -> None:
        """After the end nothing is told, and nothing is kept for the next time."""
        self.watch.start()
        self.watch.start()
        audit("ticket-refused", address="192.0.2.1", reason="before")
        self.watch.stop()
        self.watch.stop()
        audit("ticket-refused", address="192.0.2.1", reason="between")
        self.clock.advance(10)
        self.assertEqual(self.reports, [])
        self.watch.start()
        self.clock.advance(1)
        self.assertEqual(self.reports[0]["events"], [])
