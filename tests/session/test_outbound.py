"""Tests of stompauth.session.outbound."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.session.outbound import OutboundBuffer


class MemoryTransport:
    """Keeps what was sent; blocks the buffer after every so many messages."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bool]] = []
        self.buffer: OutboundBuffer | None = None
        self.room = 1000

    def send(self, data: bytes, *, binary: bool) -> None:
        self.sent.append((data, binary))
        self.room -= 1
        if self.room == 0 and self.buffer is not None:
            self.buffer.block()

    def close(self, code: int, reason: str) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class OutboundBufferTests(SynchronousTestCase):
    """Output goes through, or waits in order and within its bound."""

    def setUp(self) -> None:
        self.transport = MemoryTransport()
        self.overflows = 0
        self.buffer = OutboundBuffer(self.transport, 10, self.overflowed)
        self.transport.buffer = self.buffer

    def overflowed(self) -> None:
        self.overflows += 1

    def test_through(self) -> None:
        """Nothing is kept while the transport takes it."""
        self.buffer.write(b"x" * 100, binary=True)
        self.assertEqual(self.transport.sent, [(b"x" * 100, True)])

    def test_order(self) -> None:
        """What was kept goes out first, in order, text and binary as they were."""
        self.buffer.block()
        for data in (b"a", b"b", b"c"):
            self.buffer.write(data, binary=data == b"b")
        self.assertEqual(self.transport.sent, [])
        self.assertEqual(self.buffer.size, 3)
        self.buffer.unblock()
        self.buffer.write(b"d")
        self.assertEqual([data for data, _ in self.transport.sent], [b"a", b"b", b"c", b"d"])
        self.assertEqual([binary for _, binary in self.transport.sent], [False, True, False, False])
        self.assertEqual(self.buffer.size, 0)

    def test_blocks_again(self) -> None:
        """The transport may block in the middle of what was kept."""
        self.buffer.block()
        for data in (b"a", b"b", b"c"):
            self.buffer.write(data)
        self.transport.room = 2
        self.buffer.unblock()
        self.assertEqual([data for data, _ in self.transport.sent], [b"a", b"b"])
        self.assertTrue(self.buffer.is_blocked)
        self.buffer.write(b"d")
        self.buffer.unblock()
        self.assertEqual(b"".join(data for data, _ in self.transport.sent), b"abcd")

    def test_bound(self) -> None:
        """RS-1: as much is kept as may be and no octet more; then the owner is told."""
        self.buffer.block()
        self.buffer.write(b"x" * 10)
        self.assertEqual(self.overflows, 0)
        self.buffer.write(b"y")
        self.assertEqual(self.overflows, 1)
        self.assertEqual(self.buffer.size, 10)

    def test_no_bound(self) -> None:
        """0 is no limit."""
        buffer = OutboundBuffer(self.transport, 0, self.overflowed)
        buffer.block()
        buffer.write(b"x" * 10**6)
        self.assertEqual((buffer.size, self.overflows), (10**6, 0))

    def test_flush_and_discard(self) -> None:
        """At the end all goes out, blocked or not, or nothing does."""
        self.buffer.block()
        self.buffer.write(b"a")
        self.buffer.flush()
        self.buffer.write(b"b")
        self.buffer.discard()
        self.buffer.unblock()
        self.assertEqual([data for data, _ in self.transport.sent], [b"a"])
        self.assertEqual(self.buffer.size, 0)
