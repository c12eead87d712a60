"""Tests of stompauth.session.outbound."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.session.outbound import OutboundBuffer, websocket_frame
from tests.wire import read_frame


class MemoryTransport:
    """Keeps what was sent; blocks the buffer after every so many messages."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.buffer: OutboundBuffer | None = None
        self.room = 1000

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)
        self.room -= 1
        if self.room == 0 and self.buffer is not None:
            self.buffer.block()


class OutboundBufferTests(SynchronousTestCase):
    """Output goes through, or waits in order and within its bound."""

    def setUp(self) -> None:
        self.transport = MemoryTransport()
        self.clock = Clock()
        self.clock.advance(100)
        self.overflows = 0
        self.buffer = OutboundBuffer(self.transport.send, 10, self, self.clock)
        self.transport.buffer = self.buffer

    def overflowed(self) -> None:
        self.overflows += 1

    def test_through(self) -> None:
        """Nothing is kept while the transport takes it."""
        self.buffer.write(b"x" * 100)
        self.assertEqual(self.transport.sent, [b"x" * 100])

    def test_order(self) -> None:
        """What was kept goes out first, in order."""
        self.buffer.block()
        for data in (b"a", b"b", b"c"):
            self.buffer.write(data)
        self.assertEqual(self.transport.sent, [])
        self.assertEqual(self.buffer.size, 3)
        self.buffer.unblock()
        self.buffer.write(b"d")
        self.assertEqual(self.transport.sent, [b"a", b"b", b"c", b"d"])
        self.assertEqual(self.buffer.size, 0)

    def test_blocks_again(self) -> None:
        """The transport may block in the middle of what was kept."""
        self.buffer.block()
        for data in (b"a", b"b", b"c"):
            self.buffer.write(data)
        self.transport.room = 2
        self.buffer.unblock()
        self.assertEqual(self.transport.sent, [b"a", b"b"])
        self.assertTrue(self.buffer.is_blocked)
        self.buffer.write(b"d")
        self.buffer.unblock()
        self.assertEqual(b"".join(self.transport.sent), b"abcd")

    def test_bound(self) -> None:
        """RS-1: as much is kept as may be and no octet more; then the owner is told."""
        self.buffer.block()
        self.buffer.write(b"x" * 10)
        self.assertEqual(self.overflows, 0)
        self.buffer.write(b"y")
        self.assertEqual(self.overflows, 1)
        self.assertEqual(self.buffer.size, 10)

    def test_written_at(self) -> None:
        """The time of the last write is known; what is only kept is not written."""
        self.assertEqual(self.buffer.written_at, 0)
        self.buffer.write(b"a")
        self.assertEqual(self.buffer.written_at, 100)
        self.clock.advance(1)
        self.buffer.block()
        self.buffer.write(b"b")
        self.assertEqual(self.buffer.written_at, 100)

    def test_no_bound(self) -> None:
        """0 is no limit."""
        buffer = OutboundBuffer(self.transport.send, 0, self, self.clock)
        buffer.block()
        buffer.write(b"x" * 10**6)
        self.assertEqual((buffer.size, self.overflows), (10**6, 0))

    def test_end_and_discard(self) -> None:
        """At the end all goes out, blocked or not, but for what was discarded."""
        self.buffer.block()
        self.buffer.write(b"a")
        self.buffer.discard()
        self.buffer.write(b"b")
        self.buffer.end()
        self.buffer.write(b"c")
        self.buffer.unblock()
        self.assertEqual(self.transport.sent, [b"b", b"c"])
        self.assertEqual(self.buffer.size, 0)


class WebSocketFrameTests(SynchronousTestCase):
    """A message is one frame."""

    def test_lengths(self) -> None:
        """Each length is written in the shortest form that can hold it."""
        for length in (0, 125, 126, 65535, 65536):
            for binary in (False, True):
                frame = websocket_frame(b"x" * length, binary=binary)
                head = frame[: len(frame) - length]
                self.assertEqual(len(head), 2 if length < 126 else 4 if length < 65536 else 10)
                self.assertEqual(read_frame(frame), (2 if binary else 1, b"x" * length, b""))
                self.assertEqual(head[0] & 0xF0, 0x80)
