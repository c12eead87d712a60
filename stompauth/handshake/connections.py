"""How many sockets there are: in all, per address and per user."""

from __future__ import annotations

import math
import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred, succeed

from stompauth.audit import audit
from stompauth.errors import Denied
from stompauth.handshake.address import network_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IAddress

    from stompauth.handshake.address import ClientAddress
    from stompauth.settings import Limits


class OtherNodes(Protocol):
    """What the other nodes have to do with a socket here."""

    def is_ready(self) -> bool:
        """Whether it is known what they have revoked."""

    def count(self, issuer: str, user: str) -> int:
        """How many sockets they have of that user."""


class Slot:
    """One socket's place in the counts, given back once however often it is released."""

    __slots__ = ("_address", "_connections", "_released", "_user")

    def __init__(self, connections: Connections, address: str) -> None:
        self._connections = connections
        self._address = address
        self._user: tuple[str, str] | None = None
        self._released = False

    def claim_user(self, issuer: str, user: str) -> None:
        """Count the socket for its user.

        :raises Denied: 429 when the user has as many as he may.
        """
        if self._connections.is_full_for(issuer, user):
            raise Denied(429, "sessions", 1)
        self._user = (issuer, user)
        self._connections.by_user[self._user] += 1

    def release(self) -> None:
        """Give the place back."""
        if self._released:
            return
        self._released = True
        connections = self._connections
        connections.total -= 1
        _decrement(connections.by_address, self._address)
        if self._user is not None:
            _decrement(connections.by_user, self._user)
        if not connections.total:
            waiting, connections.waiting = connections.waiting, []
            for deferred in waiting:
                deferred.callback(None)


def _decrement(counts: Counter[Any], key: object) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


class HTTPConnections:
    """The counts of sockets that speak HTTP: from accept until they end or become WebSockets.

    A WebSocket is counted by :class:`Connections` from its handshake on.

    :param total: how many there may be; 0 for any number.
    :param per_address: how many of one IPv4 address or IPv6 /64; 0 for any number. Unix sockets
        and trusted proxies have no such bound: many clients stand behind one of them.
    :param addresses: knows the trusted proxies.
    :ivar limit: as ``total``; may be replaced.
    :ivar limit_per_address: as ``per_address``; likewise.
    """

    def __init__(self, total: int, per_address: int, addresses: ClientAddress) -> None:
        self.limit = total
        self.limit_per_address = per_address
        self._addresses = addresses
        self._total = 0
        self._by_address: Counter[str] = Counter()
        self._noted: set[str] = set()

    def __len__(self) -> int:
        return self._total

    def claim(self, peer: IAddress | None) -> Callable[[], None] | None:
        """Count a socket that was accepted.

        :return: gives its place back, to be called once; None when there are too many.
        """
        if self.limit and self._total >= self.limit:
            self._note("all addresses")
            return None
        address = self._addresses.of(peer, ())
        network = None
        if address != "unknown" and not self._addresses.is_proxy(peer):
            network = network_of(address)
            limit = self.limit_per_address
            if limit and self._by_address[network] >= limit:
                self._note(network)
                return None
            self._by_address[network] += 1
        self._total += 1
        return partial(self._release, network)

    def _release(self, network: str | None) -> None:
        self._total -= 1
        self._noted.discard("all addresses")
        if network is not None:
            _decrement(self._by_address, network)
            self._noted.discard(network)

    def _note(self, what: str) -> None:
        # Once, until there is room again: what is refused costs an attacker nothing.
        if what not in self._noted:
            self._noted.add(what)
            audit("connections-refused", address=what)


class Connections:
    """The counts of open and opening WebSockets.

    :param limits: ``sessions``, ``sessions_per_address`` and ``sessions_per_user``.
    :param others: the other nodes of a cluster, whose sockets count for their users, too.
    :ivar is_stopping: whether the server takes no more of them, because it is about to stop.
    :ivar back_in: seconds over which clients that are turned away then are told to come back.
    """

    def __init__(self, limits: Limits, others: OtherNodes | None = None) -> None:
        self.limits = limits
        self._others = others
        self.is_stopping = False
        self.back_in: float = 1
        self.total = 0
        self.by_address: Counter[str] = Counter()
        self.by_user: Counter[tuple[str, str]] = Counter()
        self.waiting: list[Deferred[None]] = []

    def claim(self, address: str) -> Slot:
        """Count a socket, from the handshake on.

        :raises Denied: 503 when the server is stopping, 429 when there are as many as may be, in
            all or from the address.
        """
        self.check_open()
        limits = self.limits
        if limits.sessions and self.total >= limits.sessions:
            raise Denied(429, "sessions", 1)
        if limits.sessions_per_address and self.by_address[address] >= limits.sessions_per_address:
            raise Denied(429, "sessions", 1)
        self.total += 1
        self.by_address[address] += 1
        return Slot(self, address)

    def check_open(self) -> None:
        """Make sure that the server is not about to stop, and knows what was revoked.

        :raises Denied: 503, with a ``Retry-After`` that differs from one client to the next.
        """
        if self.is_stopping:
            # Nothing depends on nobody's guessing it.
            retry_after = random.randint(1, max(1, math.ceil(self.back_in)))  # noqa: S311
            raise Denied(503, "unavailable", retry_after)
        if self._others is not None and not self._others.is_ready():
            raise Denied(503, "unavailable", 1)

    def when_none(self) -> Deferred[None]:
        """Fire when there is no socket left."""
        if not self.total:
            return succeed(None)
        deferred: Deferred[None] = Deferred(self.waiting.remove)
        self.waiting.append(deferred)
        return deferred

    def is_full_for(self, issuer: str, user: str) -> bool:
        """Whether a further socket of this user would be turned down."""
        limit = self.limits.sessions_per_user
        if not limit:
            return False
        elsewhere = 0 if self._others is None else self._others.count(issuer, user)
        return self.by_user[issuer, user] + elsewhere >= limit
