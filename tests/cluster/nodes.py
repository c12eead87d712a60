"""Nodes in one process, with sessions that nobody has connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.task import Clock

from stompauth.cluster.cluster import Cluster
from stompauth.cluster.node import Node
from stompauth.identity.revocation import Revocations
from stompauth.session.outbound import OutboundBuffer
from stompauth.session.session import Session, SessionFactory
from stompauth.settings import Limits
from stompauth.tickets.grant import TicketGrant
from tests.cluster.memory_bus import MemoryLog, MemoryNetwork

if TYPE_CHECKING:
    from stompauth.cluster.directory import Directory
    from stompauth.session.outbound import Bounded, Outbound

NOW = 1_750_000_000.0
ISSUER = "https://id.example.com/"


class Transport:
    """A WebSocket of which only the end counts."""

    closed: tuple[int, str] | None = None

    def outbound(self, limit: int, owner: Bounded) -> Outbound:
        return OutboundBuffer(lambda frame: None, limit, owner, Clock())

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abort(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class ClusterNode:
    """A node: a cluster, and sessions that it tells of."""

    def __init__(self, network: MemoryNetwork, clock: Clock, log: MemoryLog | None, most: int):
        self.bus = network.bus()
        self.cluster = Cluster(self.bus, clock, log)
        self.sessions = SessionFactory(
            chain=cast("Any", None),
            authorize=cast("Any", None),
            broker=cast("Any", None),
            clock=clock,
            limits=Limits(sessions_per_user=most, connect_timeout=0),
            observer=self.cluster,
        )
        self.node = Node(self.sessions, Revocations(clock))
        self.cluster.attach(self.node)

    @property
    def directory(self) -> Directory:
        return self.cluster._directory

    def open(self, user: str, issued_at: float = NOW, issuer: str = ISSUER) -> Session:
        """Begin a session of a user."""
        grant = TicketGrant(issuer, user, "/stomp", issued_at + 3600, issued_at, f"jti-{user}")
        return self.sessions.open(grant, "192.0.2.1", Transport())

    def here(self) -> set[str]:
        """The ids of the sessions that are open here."""
        return {session.session_id for session in self.sessions.open_sessions}

    def knows_of(self, other: ClusterNode) -> set[str] | None:
        """The ids of the sessions that the other has, for all that is known here."""
        node = self.directory.nodes.get(other.bus.node_id)
        return None if node is None else set(node.sessions)


class Nodes:
    """Several nodes on one clock and one network."""

    def __init__(self, count: int = 2, most: int = 0, log: bool = True) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.network = MemoryNetwork()
        self.log = MemoryLog() if log else None
        self.most = most
        self.all: list[ClusterNode] = []
        for _ in range(count):
            self.add()
        self.settle()

    def __getitem__(self, index: int) -> ClusterNode:
        return self.all[index]

    def add(self) -> ClusterNode:
        """Start another node."""
        node = ClusterNode(self.network, self.clock, self.log, self.most)
        self.all.append(node)
        node.cluster.startService()
        return node

    def settle(self, seconds: float = 0.1) -> None:
        """Let what is on its way arrive, and some time pass."""
        self.network.deliver()
        self.clock.advance(seconds)
        self.network.deliver()
