"""Tests for what workers log, in the log of their parent."""

from __future__ import annotations

import io
from typing import Any, cast

from twisted.logger import (
    Logger,
    LogLevel,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.trial.unittest import SynchronousTestCase

from stompauth.workers.log import MAX_LINE, WorkerLog, worker_log_observer


class WorkerLogTests(SynchronousTestCase):
    """Tests for WorkerLog."""

    def setUp(self) -> None:
        self.events: list[Any] = []
        self.log = WorkerLog(3, cast("Any", self.events.append))

    def written(self) -> tuple[io.StringIO, Logger]:
        """What a worker writes to, and its logger."""
        file = io.StringIO()
        logger = Logger("its.module", observer=worker_log_observer(file))
        return file, logger

    def test_events(self) -> None:
        """An event comes as it was: level, text, fields, time; and says which worker's it is."""
        file, logger = self.written()
        logger.warn("{user} has \u00fc\n{count!r}", user="ada", count=5)
        logger.debug("more")
        octets = file.getvalue().encode("utf-8")
        for start in range(0, len(octets), 7):
            self.log.received(octets[start : start + 7])
        first, second = self.events
        self.assertEqual(formatEvent(first), "ada has \u00fc\n5")
        self.assertEqual(first["log_level"], LogLevel.warn)
        self.assertEqual((first["user"], first["worker"]), ("ada", 3))
        self.assertIn(
            "[worker 3, its.module#warn] ada has", formatEventAsClassicLogText(first) or ""
        )
        self.assertEqual(second["log_level"], LogLevel.debug)

    def test_failure(self) -> None:
        """A failure comes with its traceback, and with what the exception says."""
        file, logger = self.written()
        try:
            raise ValueError("no good")
        except ValueError:
            logger.failure("it broke")
        self.log.received(file.getvalue().encode("utf-8"))
        traceback = self.events[0]["log_failure"].getTraceback()
        self.assertIn("builtins.ValueError: no good\n", traceback)
        self.assertIn("test_log.py", traceback)
        self.assertIn("no good", formatEventAsClassicLogText(self.events[0]) or "")
        self.assertEqual(self.events[0]["log_level"], LogLevel.critical)

    def test_other_output(self) -> None:
        """What is no event is told as a line, as are octets that are no text."""
        self.log.received(b'Fatal Python error\n\n{}\n[1]\n\xff\n{"log_level"')
        self.log.ended()
        texts = [formatEvent(event) for event in self.events]
        self.assertEqual(texts[0], "worker 3 says: Fatal Python error")
        self.assertIn("worker 3 says: \ufffd", texts)
        self.assertEqual(texts[-1], 'worker 3 says: {"log_level"')

    def test_bound(self) -> None:
        """Of a line without an end not more than so much is kept."""
        for _ in range(3):
            self.log.received(b"x" * (MAX_LINE - 1))
        self.assertEqual(len(self.events), 1)
        self.assertLess(len(formatEvent(self.events[0])), MAX_LINE + 100)
