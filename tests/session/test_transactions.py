"""Tests of stompauth.session.transactions."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import Refused
from stompauth.session.transactions import (
    DELIVERY_COST,
    FRAME_OVERHEAD,
    HEADER_OVERHEAD,
    Transactions,
)
from stompauth.settings import Limits
from stompauth.stomp.frame import Frame


class TransactionsTests(SynchronousTestCase):
    """ST-14: frames are kept in order, per transaction, within bounds."""

    def setUp(self) -> None:
        size = 2 * FRAME_OVERHEAD + HEADER_OVERHEAD + 4
        self.transactions = Transactions(Limits(transactions=2, transaction_bytes=size))

    def assert_refused(self, code: str, call: object, *args: object) -> None:
        error = self.assertRaises(Refused, call, *args)
        self.assertEqual(error.code, code)

    def test_order(self) -> None:
        """The frames come back in their order, and the transaction is over."""
        frames = [Frame("SEND", {}, b"a"), Frame("ACK", {}, b"b")]
        self.transactions.begin("t")
        for frame in frames:
            self.transactions.add("t", frame)
        self.assertEqual(self.transactions.end("t"), frames)
        self.assert_refused("unknown-transaction", self.transactions.end, "t")

    def test_unknown(self) -> None:
        """Only an open transaction takes frames."""
        self.assert_refused("unknown-transaction", self.transactions.add, "t", Frame("SEND"))

    def test_twice(self) -> None:
        """A name is in use until its end."""
        self.transactions.begin("t")
        self.assert_refused("duplicate-id", self.transactions.begin, "t")

    def test_number(self) -> None:
        """There are no more at a time than there may be."""
        self.transactions.begin("a")
        self.transactions.begin("b")
        self.assert_refused("limit", self.transactions.begin, "c")
        self.transactions.end("a")
        self.transactions.begin("c")

    def test_bytes(self) -> None:
        """All of them together hold no more than they may, and give it back at their end."""
        self.transactions.begin("a")
        self.transactions.begin("b")
        self.transactions.add("a", Frame("SEND", {"a": "b"}))
        self.transactions.add("b", Frame("SEND", {}, b"ab"))
        self.assert_refused("limit", self.transactions.add, "a", Frame("SEND"))
        self.transactions.end("b")
        # A header costs more than its letters.
        self.assert_refused("limit", self.transactions.add, "a", Frame("SEND", {"a": "b"}))
        self.transactions.add("a", Frame("SEND"))
        self.transactions.clear()
        self.assertEqual(len(self.transactions), 0)

    def test_work(self) -> None:
        """RS-2: an ACK of many messages counts for the work that its COMMIT will be."""
        self.transactions.begin("t")
        many = FRAME_OVERHEAD // DELIVERY_COST
        self.transactions.add("t", Frame("ACK"), many)
        self.assert_refused("limit", self.transactions.add, "t", Frame("ACK"), many)
        self.transactions.end("t")
        self.transactions.begin("t")
        self.transactions.add("t", Frame("ACK"), many)
