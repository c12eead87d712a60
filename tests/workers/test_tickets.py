"""Tests for tickets of several workers."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from stompauth.cluster.requests import TIMEOUT
from stompauth.errors import TicketRefused, TicketReplayed, Unavailable
from stompauth.tickets.grant import TicketGrant
from stompauth.tickets.memory import MemoryTicketStore
from stompauth.workers.mesh import NAME_LENGTH, Mesh
from stompauth.workers.tickets import MeshTicketStore
from tests.workers.network import Network


def grant(user: str = "ada", issuer: str = "https://id.example.com/") -> TicketGrant:
    """What a ticket is for."""
    return TicketGrant(
        issuer=issuer,
        user=user,
        path="/stomp",
        token_expires_at=600.0,
        token_issued_at=0.0,
        token_id="jti",
        subject="sub",
        provider_session="sid",
        origin="https://chat.example.com",
        address="127.0.0.1",
        grant_id="id",
    )


class MeshTicketStoreTests(SynchronousTestCase):
    """Tests for MeshTicketStore, of three workers."""

    def setUp(self) -> None:
        self.begin()

    def begin(self, max_total: int = 1000) -> None:
        self.max_total = max_total
        self.network = Network()
        self.meshes: list[Mesh] = []
        self.stores: list[MeshTicketStore] = []
        for index in range(3):
            self.add(index)
        self.network.pump()

    def add(self, index: int) -> None:
        mesh = self.network.mesh(index, 3)
        own = MemoryTicketStore(self.network.clock, max_outstanding=2, max_total=self.max_total)
        self.stores.append(MeshTicketStore(own, mesh, self.network.clock))
        mesh.start()
        self.meshes.append(mesh)

    def tearDown(self) -> None:
        for mesh in self.meshes:
            if mesh._looks.running:
                mesh._looks.stop()

    def issue(self, worker: int, what: TicketGrant | None = None) -> str:
        issued = self.stores[worker].issue(what or grant(), 30)
        self.network.pump()
        return self.successResultOf(issued)

    def redeem(self, worker: int, ticket: str) -> TicketGrant | type[Exception]:
        redeemed = self.stores[worker].redeem(ticket)
        self.network.pump()
        results: list[TicketGrant | type[Exception]] = []
        redeemed.addCallbacks(results.append, lambda failure: results.append(failure.type))
        (result,) = results
        return result

    def home(self, ticket: str) -> int:
        """The worker that has the ticket."""
        return [mesh.node_id for mesh in self.meshes].index(ticket[:NAME_LENGTH])

    def test_everywhere_once(self) -> None:
        """TK-1: whoever issued it, a ticket is good at every worker, and once."""
        for issuer in range(3):
            for redeemer in range(3):
                for number in range(3):
                    wanted = grant(f"user {number}")
                    ticket = self.issue(issuer, wanted)
                    self.assertEqual(self.redeem(redeemer, ticket), wanted)
                    for again in range(3):
                        self.assertEqual(self.redeem(again, ticket), TicketReplayed)
                self.network.clock.advance(31)

    def test_shape(self) -> None:
        """A ticket is the name of a worker and 256 random bits, and of the alphabet of tickets."""
        tickets = {self.issue(number % 3, grant(f"user {number}")) for number in range(9)}
        self.assertEqual(len({ticket[NAME_LENGTH:] for ticket in tickets}), 9)
        for ticket in tickets:
            self.assertTrue(re.fullmatch("[A-Za-z0-9_-]{51}", ticket))

    def test_one_of_many_takers(self) -> None:
        """TK-2: of all workers that take a ticket at the same time, one gets it."""
        ticket = self.issue(0)
        results: list[object] = []
        for store in self.stores:
            store.redeem(ticket).addCallbacks(
                results.append, lambda failure: results.append(failure.type)
            )
        self.network.pump()
        self.assertEqual(results.count(grant()), 1)
        self.assertEqual(results.count(TicketReplayed), 2)

    def test_never_on_the_wire(self) -> None:
        """What the workers tell each other of a ticket does not open anything."""
        before = len(self.network.written)
        ticket = self.issue(0)
        for worker in range(3):
            self.redeem(worker, ticket)
        wire = b"".join(self.network.written[before:])
        self.assertIn(b"take", wire)
        self.assertNotIn(ticket[NAME_LENGTH:].encode(), wire)

    def test_guesses(self) -> None:
        """What was never issued is refused, by this worker, another one or nobody."""
        for name in [*(mesh.node_id for mesh in self.meshes), "nobodys_", "short"]:
            self.assertEqual(self.redeem(0, name + "x" * 43), TicketRefused)

    def test_most_outstanding(self) -> None:
        """A user has so many tickets over all workers; a further one voids the oldest."""
        tickets = [self.issue(worker) for worker in (0, 1, 2)]
        other = self.issue(0, grant(issuer="https://other.example.com/"))
        self.assertEqual(self.redeem(0, tickets[0]), TicketRefused)
        for ticket in tickets[1:]:
            self.assertEqual(self.redeem(0, ticket), grant())
        self.assertEqual(self.redeem(1, other).user, "ada")  # type: ignore[union-attr]

    def test_revoke(self) -> None:
        """The tickets of a user are void, whichever worker is asked; and are counted."""
        tickets = [self.issue(worker) for worker in (0, 1)]
        bobs = self.issue(2, grant("bob"))
        for expected in (2, 0):
            revoked = self.stores[2].revoke(None, "ada")
            self.network.pump()
            self.assertEqual(self.successResultOf(revoked), expected)
        for ticket in tickets:
            self.assertEqual(self.redeem(0, ticket), TicketRefused)
        self.assertEqual(self.redeem(0, bobs), grant("bob"))

    def test_spread(self) -> None:
        """Users are spread over the workers, and all workers agree on where each is."""
        homes = [self.home(self.issue(0, grant(f"user {number}"))) for number in range(60)]
        self.assertEqual(set(homes), {0, 1, 2})
        again = [self.home(self.issue(1, grant(f"user {number}"))) for number in range(3)]
        self.assertEqual(again, homes[:3])

    def test_home_ends(self) -> None:
        """The tickets of a worker that ends are refused; its users get others."""
        ticket = self.issue(0)
        home = self.home(ticket)
        self.network.kill(self.meshes[home], home)
        other = (home + 1) % 3
        self.assertEqual(self.redeem(other, ticket), TicketRefused)
        self.assertEqual(self.redeem(other, self.issue(other)), grant())
        self.add(home)
        self.network.pump()
        self.assertEqual(self.redeem(3, ticket), TicketRefused)
        self.assertEqual(self.redeem(3, self.issue(other)), grant())

    def test_home_ends_while_asked(self) -> None:
        """Of a worker that ends before it answers, a ticket is refused; another one issues."""
        ticket = self.issue(0)
        home = self.home(ticket)
        store = self.stores[(home + 1) % 3]
        redeemed, issued = store.redeem(ticket), store.issue(grant(), 30)
        self.network.kill(self.meshes[home], home)
        self.failureResultOf(redeemed, TicketRefused)
        self.network.pump()
        new = self.successResultOf(issued)
        self.assertEqual(self.redeem((home + 2) % 3, new), grant())

    def test_no_answer(self) -> None:
        """A worker that does not answer in time makes tickets unavailable, not good."""
        ticket = self.issue(0)
        home = self.home(ticket)
        other = (home + 1) % 3
        self.network.transport(self.meshes[other], self.meshes[home]).stick()
        waiting = [
            self.stores[other].redeem(ticket),
            self.stores[other].issue(grant(), 30),
        ]
        self.network.pump()
        self.network.clock.advance(TIMEOUT)
        for deferred in waiting:
            self.failureResultOf(deferred, Unavailable)

    def test_full(self) -> None:
        """A worker that is full issues nothing, whoever asks it."""
        self.tearDown()
        self.begin(max_total=8)
        users = [str(number) for number in range(200)]
        home = self.stores[0]._home_of("0")
        crowd = [user for user in users if self.stores[0]._home_of(user) == home][:9]
        for user in crowd[:8]:
            self.issue(0, grant(user))
        for store in self.stores:
            issued = store.issue(grant(crowd[8]), 30)
            self.network.pump()
            self.failureResultOf(issued, Unavailable)
