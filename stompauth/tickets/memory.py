"""Tickets in this process."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_urlsafe
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from stompauth.errors import TicketRefused, TicketReplayed, Unavailable
from stompauth.interfaces import ITicketStore

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from stompauth.tickets.grant import TicketGrant

#: Random bytes in a ticket: 256 bits, so that its hash needs neither salt nor stretching.
TICKET_BYTES = 32

#: Expired entries that one call removes at most: more than it can add, and little work.
SWEEP = 16


def digest(ticket: str) -> bytes:
    """SHA-256 of the ticket, which is all of it that a store keeps."""
    return sha256(ticket.encode("utf-8", "surrogatepass")).digest()


@dataclass(slots=True)
class _Entry:
    grant: TicketGrant
    expires_at: float
    spent: bool = False


@implementer(ITicketStore)
class MemoryTicketStore:
    """Keeps tickets in a dictionary, under their hashes; they are gone with the process.

    A used ticket is remembered until its end, so that its second use is told from a guess.

    :param clock: what time it is.
    :param max_outstanding: unused tickets per subject; a further one voids the oldest.
    :param max_total: tickets in all, used ones included; then no more are issued.
    :ivar expired: how many there were that nobody took in time.
    """

    def __init__(
        self, clock: IReactorTime, max_outstanding: int = 5, max_total: int = 100_000
    ) -> None:
        self._clock = clock
        self._max_outstanding = max_outstanding
        self._max_total = max_total
        self._entries: dict[bytes, _Entry] = {}
        self._outstanding: dict[tuple[str, str], dict[bytes, None]] = {}
        self._ends: list[tuple[float, bytes]] = []
        self.expired = 0

    def __len__(self) -> int:
        return len(self._entries)

    def issue(self, grant: TicketGrant, ttl: float) -> Deferred[str]:
        """Make a ticket. See :meth:`.ITicketStore.issue`."""
        ticket = token_urlsafe(TICKET_BYTES)
        try:
            self.put(digest(ticket), grant, ttl)
        except Unavailable:
            return fail()
        return succeed(ticket)

    def put(self, key: bytes, grant: TicketGrant, ttl: float) -> None:
        """Keep the grant of a ticket that was made elsewhere.

        :param key: the ticket's SHA-256.
        :raises Unavailable: the store is full.
        """
        now = self._clock.seconds()
        self._sweep(now)
        if self._max_total and len(self._entries) >= self._max_total:
            raise Unavailable("as many tickets as there may be")
        subject = (grant.issuer, grant.user)
        outstanding = self._outstanding.setdefault(subject, {})
        while self._max_outstanding and len(outstanding) >= self._max_outstanding:
            self._forget(next(iter(outstanding)))
        expires_at = now + ttl
        self._entries[key] = _Entry(grant, expires_at)
        # Forgetting the oldest may have dropped the subject's table.
        self._outstanding.setdefault(subject, outstanding)[key] = None
        heapq.heappush(self._ends, (expires_at, key))
        if len(self._ends) > 2 * len(self._entries) + SWEEP:
            self._ends = [(entry.expires_at, key) for key, entry in self._entries.items()]
            heapq.heapify(self._ends)

    def redeem(self, ticket: str) -> Deferred[TicketGrant]:
        """Take a ticket, in one step. See :meth:`.ITicketStore.redeem`."""
        try:
            return succeed(self.take(digest(ticket)))
        except TicketRefused:
            return fail()

    def take(self, key: bytes) -> TicketGrant:
        """Take a ticket by its SHA-256.

        :raises TicketRefused: see :meth:`.ITicketStore.redeem`.
        :raises TicketReplayed: likewise, for one that was used.
        """
        now = self._clock.seconds()
        self._sweep(now)
        entry = self._entries.get(key)
        if entry is None or entry.expires_at <= now:
            raise TicketRefused("unknown or expired")
        if entry.spent:
            raise TicketReplayed(entry.grant)
        entry.spent = True
        self._settle(entry.grant, key)
        return entry.grant

    def revoke(self, issuer: str | None, user: str) -> Deferred[int]:
        """Void a user's tickets. See :meth:`.ITicketStore.revoke`."""
        keys = [
            key
            for subject, outstanding in self._outstanding.items()
            if subject[1] == user and issuer in (None, subject[0])
            for key in outstanding
        ]
        for key in keys:
            self._forget(key)
        return succeed(len(keys))

    def _settle(self, grant: TicketGrant, key: bytes) -> None:
        subject = (grant.issuer, grant.user)
        outstanding = self._outstanding.get(subject)
        if outstanding is not None:
            outstanding.pop(key, None)
            if not outstanding:
                del self._outstanding[subject]

    def _forget(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._settle(entry.grant, key)

    def _sweep(self, now: float) -> None:
        for _ in range(SWEEP):
            if not self._ends or self._ends[0][0] > now:
                return
            key = heapq.heappop(self._ends)[1]
            entry = self._entries.get(key)
            if entry is not None and not entry.spent:
                self.expired += 1
            self._forget(key)
