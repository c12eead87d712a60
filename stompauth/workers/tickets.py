"""Tickets of several workers, each kept by one of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import blake2b
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from stompauth.cluster.requests import Requests
from stompauth.errors import TicketRefused, TicketReplayed, Unavailable
from stompauth.interfaces import ITicketStore
from stompauth.tickets.grant import TicketGrant
from stompauth.tickets.memory import TICKET_BYTES, digest
from stompauth.workers.mesh import NAME_LENGTH

if TYPE_CHECKING:
    from collections.abc import Collection

    from twisted.internet.interfaces import IReactorTime

    from stompauth.tickets.memory import MemoryTicketStore
    from stompauth.workers.mesh import Mesh

#: The kinds of this store's frames.
ASK: Final = 12
ANSWER: Final = 13


@implementer(ITicketStore)
class MeshTicketStore:
    """Has every user's tickets in one of the workers, which is asked once for each.

    Which worker that is follows from the user's name, so that ``max_outstanding`` holds for all of
    them together, but for the tickets of the last seconds when a worker comes or goes. A ticket is
    the name of its worker, and 256 random bits as in :class:`.MemoryTicketStore`; the workers tell
    each other its hash alone. The tickets of a worker that ends are void.

    :param store: this worker's own.
    :param mesh: connects the workers.
    :param clock: gives the time.
    """

    def __init__(self, store: MemoryTicketStore, mesh: Mesh, clock: IReactorTime) -> None:
        self._store = store
        self._mesh = mesh
        self._requests = Requests(clock)
        mesh.attach(self, ASK, ANSWER)

    def issue(self, grant: TicketGrant, ttl: float) -> Deferred[str]:
        """Make a ticket. See :meth:`.ITicketStore.issue`."""
        return Deferred.fromCoroutine(self._issue(grant, ttl))

    async def _issue(self, grant: TicketGrant, ttl: float) -> str:
        ticket = token_urlsafe(TICKET_BYTES)
        key = digest(ticket)
        while (home := self._home_of(grant.user)) != self._mesh.node_id:
            value = await self._ask(home, ["put", key.hex(), asdict(grant), ttl])
            if value == ["put"]:
                return home + ticket
            if value is not None:
                raise Unavailable("the worker that keeps the user's tickets takes none")
            # It has ended meanwhile; another one keeps them from now on.
        self._store.put(key, grant, ttl)
        return home + ticket

    def redeem(self, ticket: str) -> Deferred[TicketGrant]:
        """Take a ticket, in one step. See :meth:`.ITicketStore.redeem`."""
        return Deferred.fromCoroutine(self._redeem(ticket))

    async def _redeem(self, ticket: str) -> TicketGrant:
        home, key = ticket[:NAME_LENGTH], digest(ticket[NAME_LENGTH:])
        if home == self._mesh.node_id:
            return self._store.take(key)
        if home not in self._mesh.nodes:
            raise TicketRefused("unknown, or of a worker that has ended")
        match await self._ask(home, ["take", key.hex()]):
            case ["granted", dict(fields)]:
                return TicketGrant(**fields)
            case ["replayed", dict(fields)]:
                raise TicketReplayed(TicketGrant(**fields))
        raise TicketRefused("unknown or expired")

    def revoke(self, issuer: str | None, user: str) -> Deferred[int]:
        """Void a user's tickets, wherever they are. See :meth:`.ITicketStore.revoke`."""
        return Deferred.fromCoroutine(self._revoke(issuer, user))

    async def _revoke(self, issuer: str | None, user: str) -> int:
        count = await self._store.revoke(issuer, user)
        answers = await self._ask_all(self._mesh.nodes, ["revoke", issuer, user])
        return count + sum(value for value in answers.values() if isinstance(value, int))

    def _home_of(self, user: str) -> str:
        """The worker that keeps a user's tickets: a rendezvous hash, so few move with a worker."""
        name = user.encode("utf-8", "surrogatepass")
        return max(
            [self._mesh.node_id, *self._mesh.nodes],
            key=lambda node_id: blake2b(name, key=node_id.encode("ascii"), digest_size=8).digest(),
        )

    async def _ask(self, node_id: str, question: list[Any]) -> Any:
        """Ask a worker; None when it ends meanwhile."""
        return (await self._ask_all([node_id], question)).get(node_id)

    async def _ask_all(self, nodes: Collection[str], question: list[Any]) -> dict[str, Any]:
        if not nodes:
            return {}
        number = self._requests.next_number()
        answers = self._requests.begin(number, nodes)
        payload = json.dumps([number, *question]).encode("ascii")
        for node_id in list(nodes):
            self._mesh.send(node_id, ASK, payload)
        return await answers

    # What the mesh tells.

    def joined(self, node_id: str, *, is_new: bool) -> None:
        """See :meth:`.MeshUser.joined`."""

    def left(self, node_id: str) -> None:
        """See :meth:`.MeshUser.left`."""
        self._requests.left(node_id)

    def received(self, node_id: str, kind: int, payload: bytes) -> None:
        """See :meth:`.MeshUser.received`."""
        number, *words = json.loads(payload)
        if kind == ANSWER:
            self._requests.answered(node_id, number, words[0])
        else:
            answer = json.dumps([number, self._answer(words)])
            self._mesh.send(node_id, ANSWER, answer.encode("ascii"))

    def writable(self, node_id: str) -> None:
        """See :meth:`.MeshUser.writable`; nothing waits here."""

    def _answer(self, question: list[Any]) -> Any:
        match question:
            case ["put", str(key), dict(fields), ttl]:
                try:
                    self._store.put(bytes.fromhex(key), TicketGrant(**fields), ttl)
                except Unavailable:
                    return ["full"]
                return ["put"]
            case ["take", str(key)]:
                try:
                    return ["granted", asdict(self._store.take(bytes.fromhex(key)))]
                except TicketReplayed as replayed:
                    return ["replayed", asdict(replayed.grant)]
                except TicketRefused:
                    return ["refused"]
            case ["revoke", issuer, str(user)]:
                counts: list[int] = []
                # A store in memory does not wait.
                self._store.revoke(issuer, user).addCallback(counts.append)
                return counts[0]
        return None
