"""Tests for what a parent tells its workers, and the watch on it."""

from __future__ import annotations

import os

from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from stompauth.workers.start import ParentWatch, Start


class StartTests(SynchronousTestCase):
    """Tests for Start and ParentWatch, on a real pipe."""

    def setUp(self) -> None:
        self.reading, self.writing = os.pipe()

    def tearDown(self) -> None:
        os.close(self.reading)

    def test_there_and_back(self) -> None:
        """What was written is read, and not an octet more."""
        start = Start(1, 3, "/run/x", {"listen": (("tcp:80", 4),), "ops.listen": ()})
        os.write(self.writing, start.encode() + b"rest")
        os.close(self.writing)
        self.assertEqual(Start.read(self.reading), start)
        self.assertEqual(os.read(self.reading, 10), b"rest")

    def test_nobody(self) -> None:
        """A process without a parent of ours is no worker."""
        os.write(self.writing, b"{")
        os.close(self.writing)
        self.assertRaises(ValueError, Start.read, self.reading)

    def test_something_else(self) -> None:
        """Nor is one that is told something else."""
        for line in (b"\n", b"[]\n", b"{}\n", b'{"listeners": []}\n', b'{"listeners": {}}\n'):
            reading, writing = os.pipe()
            os.write(writing, line)
            os.close(writing)
            self.assertRaises(ValueError, Start.read, reading)
            os.close(reading)
        os.close(self.writing)

    def test_watch(self) -> None:
        """The end of the pipe is told, when the reactor has done with it; what it brings is not."""
        gone: list[None] = []
        watch = ParentWatch(lambda: gone.append(None), self.reading)
        self.assertEqual(watch.fileno(), self.reading)
        os.write(self.writing, b"something")
        self.assertIsNone(watch.doRead())
        os.close(self.writing)
        ended = watch.doRead()
        self.assertIsInstance(ended, ConnectionLost)
        watch.connectionLost(Failure(ended))
        self.assertEqual(len(gone), 1)
