"""Tests of stompauth.tickets.memory."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from stompauth.errors import TicketRefused, TicketReplayed, Unavailable
from stompauth.interfaces import ITicketStore
from stompauth.tickets.grant import TicketGrant
from stompauth.tickets.memory import MemoryTicketStore


def grant_of(user: str, issuer: str = "https://id.example.com/") -> TicketGrant:
    return TicketGrant(
        issuer=issuer, user=user, path="/stomp", token_expires_at=2000.0, token_issued_at=1000.0
    )


class MemoryTicketStoreTests(SynchronousTestCase):
    """Tickets are taken once, in time, and never in a number without end."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryTicketStore(self.clock, max_outstanding=3, max_total=10)

    def issue(self, user: str = "alice", ttl: float = 30) -> str:
        return self.successResultOf(self.store.issue(grant_of(user), ttl))

    def test_expired_are_counted(self) -> None:
        """Those that nobody took in time are counted, once; those that were used are not."""
        used, _ = self.issue(), self.issue()
        self.successResultOf(self.store.redeem(used))
        self.clock.advance(31)
        self.failureResultOf(self.store.redeem(used), TicketRefused)
        self.assertEqual(self.store.expired, 1)

    def test_interface(self) -> None:
        """It is a ticket store."""
        self.assertTrue(verifyObject(ITicketStore, self.store))

    def test_shape(self) -> None:
        """TK-3: a ticket is 256 random bits in characters that no URL has to quote."""
        tickets = {self.issue(f"user{n}") for n in range(9)}
        self.assertEqual(len(tickets), 9)
        for ticket in tickets:
            self.assertTrue(re.fullmatch(r"[A-Za-z0-9_-]{43}", ticket))

    def test_redeem(self) -> None:
        """TK-5: a ticket gives back what it was issued for."""
        self.assertEqual(self.successResultOf(self.store.redeem(self.issue())), grant_of("alice"))

    def test_redeem_once(self) -> None:
        """TK-6: a second use of a ticket fails, and is told from a guess."""
        ticket = self.issue()
        self.successResultOf(self.store.redeem(ticket))
        error = self.failureResultOf(self.store.redeem(ticket), TicketReplayed).value
        self.assertEqual(error.grant.user, "alice")

    def test_unknown(self) -> None:
        """A ticket that was never issued is refused, whatever it is made of."""
        for ticket in ("", "x" * 43, "\ud800", "\N{GREEK SMALL LETTER ALPHA}" * 43):
            self.failureResultOf(self.store.redeem(ticket), TicketRefused)

    def test_expiry(self) -> None:
        """TK-9: a ticket is good until its time is over, and not at that moment any more."""
        early, late = self.issue(ttl=30), self.issue(ttl=30)
        self.clock.advance(29.999)
        self.successResultOf(self.store.redeem(early))
        self.clock.advance(0.001)
        error = self.failureResultOf(self.store.redeem(late), TicketRefused).value
        self.assertNotIsInstance(error, TicketReplayed)

    def test_sweep(self) -> None:
        """TK-9: expired tickets go without being asked for."""
        for n in range(9):
            self.issue(f"user{n}")
        self.clock.advance(30)
        self.issue("late")
        self.assertEqual(len(self.store), 1)

    def test_oldest_gives_way(self) -> None:
        """TK-11: a subject's further ticket voids his oldest, and nobody else's."""
        other = self.issue("bob")
        tickets = [self.issue() for _ in range(4)]
        self.failureResultOf(self.store.redeem(tickets[0]), TicketRefused)
        for ticket in (*tickets[1:], other):
            self.successResultOf(self.store.redeem(ticket))

    def test_used_tickets_do_not_count(self) -> None:
        """TK-11: only unused tickets count as outstanding."""
        kept = self.issue()
        for _ in range(5):
            self.successResultOf(self.store.redeem(self.issue()))
        self.successResultOf(self.store.redeem(kept))

    def test_full(self) -> None:
        """TK-11: a full store issues no more, keeps what it has, and recovers by time."""
        tickets = [self.issue(f"user{n}") for n in range(10)]
        self.failureResultOf(self.store.issue(grant_of("late"), 30), Unavailable)
        self.successResultOf(self.store.redeem(tickets[0]))
        self.clock.advance(30)
        self.issue("late")

    def test_no_secret_kept(self) -> None:
        """TK-4: the store holds the hash of a ticket, and nothing that contains the ticket."""
        ticket = self.issue()
        self.assertNotIn(ticket, repr(vars(self.store)))
        self.assertNotIn(ticket.encode(), repr(vars(self.store)).encode())

    def test_revoke(self) -> None:
        """Revoking a user voids all his unused tickets, of one issuer or of all."""
        mine = [self.issue(), self.issue()]
        other = self.issue("bob")
        foreign = self.successResultOf(self.store.issue(grant_of("alice", "https://b/"), 30))
        revoked = self.store.revoke("https://id.example.com/", "alice")
        self.assertEqual(self.successResultOf(revoked), 2)
        for ticket in mine:
            self.failureResultOf(self.store.redeem(ticket), TicketRefused)
        self.successResultOf(self.store.redeem(other))
        self.assertEqual(self.successResultOf(self.store.revoke(None, "alice")), 1)
        self.failureResultOf(self.store.redeem(foreign), TicketRefused)

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.tuples(st.sampled_from(["issue", "redeem", "again", "wait"]), st.integers(0, 5)),
            max_size=60,
        )
    )
    def test_bounds(self, steps: list[tuple[str, int]]) -> None:
        """TK-6, TK-11: whatever happens, no ticket opens twice and no table outgrows its bound."""
        clock = Clock()
        store = MemoryTicketStore(clock, max_outstanding=2, max_total=6)
        tickets: list[str] = []
        used: set[str] = set()
        for step, n in steps:
            if step == "wait":
                clock.advance(n * 5)
            elif step == "issue":
                issued: list[str] = []
                store.issue(grant_of(f"user{n}"), 10 + n).addCallbacks(
                    issued.append, lambda _: None
                )
                tickets += issued
            elif tickets:
                ticket = tickets[n % len(tickets)]
                taken: list[object] = []
                store.redeem(ticket).addCallbacks(taken.append, lambda _: None)
                if taken:
                    self.assertNotIn(ticket, used)
                    used.add(ticket)
            self.assertLessEqual(len(store), 6)
            self.assertLessEqual(len(store._ends), 2 * 6 + 16 + 1)
