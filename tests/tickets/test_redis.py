"""Tests of stompauth.tickets.redis, without Redis; tests/integration has those with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from stompauth.errors import TicketRefused, TicketReplayed, Unavailable
from stompauth.interfaces import IReadiness, ITicketStore
from stompauth.tickets.grant import TicketGrant
from stompauth.tickets.redis import RedisTicketStore
from tests.tickets.test_memory import grant_of


class RedisTicketStoreTests(SynchronousTestCase):
    """What goes to Redis, and what comes of its answers."""

    def setUp(self) -> None:
        self.store = RedisTicketStore(
            MemoryReactorClock(), "redis://redis.example.com", prefix="p:", max_outstanding=3
        )
        self.asked: list[tuple[Any, ...]] = []
        self.answer: Deferred[Any] = Deferred()

        def evaluate(*words: Any) -> Deferred[Any]:
            self.asked.append(words)
            self.answer = Deferred()
            return self.answer

        self.patch(self.store._redis, "evaluate", evaluate)

    def redeem(self, answer: Any) -> Deferred[TicketGrant]:
        redeemed = self.store.redeem("x" * 43)
        self.answer.callback(answer)
        return redeemed

    def test_interface(self) -> None:
        """It is a ticket store, and one that says whether it can be used."""
        self.assertTrue(verifyObject(ITicketStore, self.store))
        self.assertTrue(verifyObject(IReadiness, self.store))
        self.assertFalse(self.store.is_ready())

    def test_issue(self) -> None:
        """TK-4, TK-5: the hash and the grant go to Redis, under the prefix, and not the ticket."""
        issued = self.store.issue(grant_of("alice"), 29.9996)
        self.answer.callback(1)
        ticket = self.successResultOf(issued)
        self.assertRegex(ticket, r"\A[A-Za-z0-9_-]{43}\Z")
        ((_, keys, arguments),) = self.asked
        self.assertNotIn(ticket, repr(self.asked))
        for key in keys:
            self.assertRegex(key, r"\Ap:[a-z-]+:[0-9a-f]{64}\Z")
        self.assertEqual(json.loads(arguments[0]), asdict(grant_of("alice")))
        self.assertEqual(arguments[1:3], [29999, 3])

    def test_redeem(self) -> None:
        """TK-5: what was kept comes back, whole, also of a later version that keeps more."""
        grant = TicketGrant(
            issuer="007",
            user="\ud800 \N{SNOWMAN}",
            path="/stomp",
            token_expires_at=2000.5,
            token_issued_at=1000,
            token_id="12",
            origin="https://chat.example.com",
            address="10.0.0.0/8",
            grant_id="1e5",
        )
        kept = json.dumps(asdict(grant) | {"later": 1}).encode()
        self.assertEqual(self.successResultOf(self.redeem([1, kept])), grant)

    def test_replay(self) -> None:
        """TK-6: a used ticket is told from a guess."""
        kept = json.dumps(asdict(grant_of("alice"))).encode()
        error = self.failureResultOf(self.redeem([0, kept]), TicketReplayed).value
        self.assertEqual(error.grant.user, "alice")
        error = self.failureResultOf(self.redeem(None), TicketRefused).value
        self.assertNotIsInstance(error, TicketReplayed)

    def test_not_ours(self) -> None:
        """What is no grant opens nothing."""
        for kept in (b"", b"7", b"[]", b'{"user": "alice"}', b"\xff", b'"issuer"', b"null"):
            self.failureResultOf(self.redeem([1, kept]), TicketRefused)

    def test_unavailable(self) -> None:
        """TK-7: what Redis cannot say now, nobody says in its place."""
        calls = (
            lambda: self.store.issue(grant_of("alice"), 30),
            lambda: self.store.redeem("x" * 43),
            lambda: self.store.revoke(None, "alice"),
        )
        for call in calls:
            done: Deferred[Any] = call()
            self.answer.errback(Unavailable("away"))
            self.failureResultOf(done, Unavailable)

    def test_same_hash(self) -> None:
        """A ticket that exists already is not given out again."""
        issued = self.store.issue(grant_of("alice"), 30)
        self.answer.callback(0)
        self.failureResultOf(issued, Unavailable)

    def test_mistakes(self) -> None:
        """A URL that is none, or lacks its password, is told when the store is made."""
        for url in ("memory", "redis://u:p@h", "redis://alice@h"):
            self.assertRaises(ValueError, RedisTicketStore, MemoryReactorClock(), url)
