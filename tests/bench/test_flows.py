"""What is in flight, and what counts as come."""

from __future__ import annotations

from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tests.bench.flows import MESSAGE, RECEIPT, FanOut, Flow, Queued, counting


class Connection:
    """Takes what a flow sends."""

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)


class CountingTests(SynchronousTestCase):
    """counting()."""

    def count(self, mark: bytes, *pieces: bytes) -> int:
        flow = Flow(cast("Any", Connection()), [b"."], 1)
        take = counting(mark, flow, 0)
        for piece in pieces:
            take(piece)
        return flow.completed

    def test_wherever_it_is_cut(self) -> None:
        """Each message and each receipt counts once, however the stream is cut in three."""
        messages = b"\x81\x7e\x00\xc8MESSAGE\n\nx}x}\0" * 2
        receipts = b"\x81\x19RECEIPT\nreceipt-id:r\n\n\0" * 2
        for mark, stream in ((MESSAGE, messages), (RECEIPT, receipts)):
            for first in range(1, len(stream) - 1):
                for second in range(first + 1, len(stream)):
                    pieces = (stream[:first], stream[first:second], stream[second:])
                    self.assertEqual(self.count(mark, *pieces), 2, pieces)

    def test_octet_by_octet(self) -> None:
        """Nor does it matter that every octet comes alone."""
        stream = b"\x81\x19RECEIPT\nreceipt-id:r\n\n\0" * 3
        self.assertEqual(self.count(RECEIPT, *(bytes([octet]) for octet in stream)), 3)


class FlowTests(SynchronousTestCase):
    """Flow, FanOut and Queued."""

    def setUp(self) -> None:
        self.connection: Any = Connection()

    def test_window(self) -> None:
        """There is never more in flight than the window, and the frames take turns."""
        flow = Flow(self.connection, [b"a", b"b", b"c"], 2)
        flow.pump()
        flow.pump()
        self.assertEqual(self.connection.sent, b"ab")
        flow.arrived(0, 1)
        flow.pump()
        self.assertEqual(self.connection.sent, b"abc")

    def test_the_last_receiver(self) -> None:
        """A publish is done when the last of its receivers has it, in whatever order they come."""
        flow = FanOut(self.connection, b".", 2, 3)
        flow.pump()
        flow.arrived(0, 2)
        flow.arrived(1, 2)
        self.assertEqual(flow.completed, 0)
        flow.arrived(2, 1)
        self.assertEqual(flow.completed, 1)
        flow.arrived(2, 1)
        self.assertEqual(flow.completed, 2)

    def test_more_than_was_sent(self) -> None:
        """A delivery too many is a mistake."""
        flow = FanOut(self.connection, b".", 1, 1)
        flow.pump()
        self.assertRaises(IndexError, flow.arrived, 0, 2)

    def test_both_the_receipt_and_the_message(self) -> None:
        """A message to a queue is done when both have come."""
        flow = Queued(self.connection, b".", 1)
        flow.pump()
        flow.arrived(1, 1)
        self.assertEqual(flow.completed, 0)
        flow.arrived(0, 1)
        self.assertEqual(flow.completed, 1)

    def test_operations(self) -> None:
        """A burst of SENDs counts as so many."""
        flow = Flow(self.connection, [b"."], 1, 8)
        flow.pump()
        flow.arrived(0, 1)
        self.assertEqual(flow.operations, 8)
