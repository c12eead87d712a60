"""Tests of stompauth.broker.inbox."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker import inbox
from stompauth.broker.inbox import Inbox


class InboxTests(SynchronousTestCase):
    """What waits between a bus and its deliveries."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.delivered: list[bytes] = []
        self.result: Deferred[None] | None = None
        self.told: list[str] = []
        self.inbox = Inbox(
            self.clock,
            self._deliver,
            lambda: self.told.append("pause"),
            lambda: self.told.append("resume"),
        )

    def _deliver(self, channel: str, payload: bytes) -> Deferred[None] | None:
        if payload == b"bad":
            raise ValueError("it is bad")
        self.delivered.append(payload)
        return self.result

    def turn(self) -> None:
        """One turn of the reactor; what it calls for later is not in it."""
        calls, self.clock.calls = self.clock.calls, []
        for call in calls:
            call.called = 1
            call.func(*call.args)

    def test_turns(self) -> None:
        """A turn of the reactor delivers some, in their order; the next one goes on."""
        payloads = [b"%d" % n for n in range(inbox.PAYLOADS_PER_TURN + 1)]
        for payload in payloads:
            self.inbox.put("x", payload)
        self.assertEqual(self.delivered, [])
        self.turn()
        self.assertEqual(self.delivered, payloads[:-1])
        self.turn()
        self.assertEqual(self.delivered, payloads)
        self.assertEqual((len(self.inbox), self.inbox.size), (0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_time(self) -> None:
        """A turn ends, too, when it has taken long enough."""
        slow = Inbox(self.clock, self._slowly, lambda: None, lambda: None)
        slow.put("x", b"1")
        slow.put("x", b"2")
        self.turn()
        self.assertEqual(len(slow), 1)

    def _slowly(self, channel: str, payload: bytes) -> None:
        self.clock.rightNow += 1

    def test_long_delivery(self) -> None:
        """While one is being delivered, the later ones wait."""
        self.result = Deferred()
        self.inbox.put("x", b"1")
        self.inbox.put("x", b"2")
        self.clock.advance(0)
        self.clock.advance(1)
        self.assertEqual(self.delivered, [b"1"])
        result, self.result = self.result, None
        result.callback(None)
        self.clock.advance(0)
        self.assertEqual(self.delivered, [b"1", b"2"])

    def test_failures(self) -> None:
        """What cannot be delivered is logged, and the rest goes on."""
        for payload in (b"bad", b"1"):
            self.inbox.put("x", payload)
        self.result = Deferred()
        self.clock.advance(0)
        self.result.errback(ValueError("it is bad"))
        self.result = None
        self.inbox.put("x", b"2")
        self.clock.advance(0)
        self.assertEqual(self.delivered, [b"1", b"2"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_pause(self) -> None:
        """When too many octets wait the bus is paused, until half of them are gone."""
        self.patch(inbox, "MAX_BYTES", 4 * (inbox.OVERHEAD + 1))
        self.patch(inbox, "PAYLOADS_PER_TURN", 1)
        for _ in range(5):
            self.inbox.put("x", b"1")
        self.assertEqual(self.told, ["pause"])
        self.turn()
        self.turn()
        self.assertEqual(self.told, ["pause"])
        self.turn()
        self.assertEqual(self.told, ["pause", "resume"])

    def test_clear(self) -> None:
        """What is forgotten is not delivered, and the bus not left paused."""
        self.patch(inbox, "MAX_BYTES", 1)
        self.inbox.put("x", b"1")
        self.inbox.clear()
        self.assertEqual(self.told, ["pause", "resume"])
        self.clock.advance(1)
        self.assertEqual(self.delivered, [])
        self.inbox.put("x", b"2")
        self.clock.advance(0)
        self.assertEqual(self.delivered, [b"2"])
