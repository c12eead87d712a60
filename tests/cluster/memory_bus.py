"""A bus between nodes in one process, which a test can cut."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed

from stompauth.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stompauth.cluster.bus import NodeListener
    from stompauth.identity.revocation import Revocation


class MemoryNetwork:
    """What the buses of several nodes are connected to.

    Payloads are on their way until :meth:`deliver`: those of one sender in their order.

    :ivar wire: everything that was ever sent.
    :ivar is_instant: whether payloads arrive at once, in the sender's own call.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._buses: dict[str, MemoryBus] = {}
        self._on_its_way: dict[tuple[str, str], deque[bytes]] = {}
        self.wire: list[bytes] = []
        self.is_instant = False

    def bus(self) -> MemoryBus:
        """The bus of a new node."""
        return MemoryBus(self, f"node-{next(self._numbers)}")

    def _reachable(self, one: str, other: str) -> bool:
        return one != other and not self._buses[one].is_cut and not self._buses[other].is_cut

    def add(self, bus: MemoryBus) -> None:
        self._buses[bus.node_id] = bus
        self.reconnect(bus)

    def reconnect(self, bus: MemoryBus) -> None:
        """Everybody who can be reached hears of the node, and it of them."""
        bus.listener.connected()
        for other in self._others(bus.node_id):
            bus.nodes.append(other.node_id)
            bus.listener.joined(other.node_id)
            if bus.node_id not in other.nodes:
                other.nodes.append(bus.node_id)
                other.listener.joined(bus.node_id)

    def remove(self, node_id: str) -> None:
        """A node has left, or was silent for too long."""
        del self._buses[node_id]
        self.lose(node_id)
        self.forget(node_id)

    def forget(self, node_id: str) -> None:
        """The others have not heard of the node for too long."""
        for other in self._buses.values():
            if node_id in other.nodes:
                other.nodes.remove(node_id)
                other.listener.left(node_id)

    def lose(self, node_id: str, sender: str | None = None) -> None:
        """Whatever is on its way from or to the node does not arrive."""
        for way in list(self._on_its_way):
            if node_id in way and sender in (None, way[0]):
                del self._on_its_way[way]

    def _others(self, node_id: str) -> list[MemoryBus]:
        return [bus for name, bus in list(self._buses.items()) if self._reachable(node_id, name)]

    def put(self, sender: str, receivers: Sequence[str], payload: bytes) -> None:
        self.wire.append(payload)
        for receiver in receivers:
            if receiver in self._buses and self._reachable(sender, receiver):
                self._on_its_way.setdefault((sender, receiver), deque()).append(payload)
        if self.is_instant:
            self.deliver()

    def others_of(self, node_id: str) -> list[str]:
        return [bus.node_id for bus in self._others(node_id)]

    def deliver(self, most: int = 100_000) -> int:
        """Let payloads arrive, and the answers to them; say how many.

        :param most: how many arrive at most.
        """
        delivered = 0
        while self._on_its_way and delivered < most:
            way = next(iter(self._on_its_way))
            # Ways take turns.
            payloads = self._on_its_way.pop(way)
            payload = payloads.popleft()
            if payloads:
                self._on_its_way[way] = payloads
            sender, receiver = way
            delivered += 1
            if sender in self._buses[receiver].nodes:
                self._buses[receiver].listener.received(sender, payload)
        return delivered


class MemoryBus:
    """Provides a NodeBus."""

    listener: NodeListener

    def __init__(self, network: MemoryNetwork, node_id: str) -> None:
        self.node_id = node_id
        self.network = network
        self.nodes: list[str] = []
        self.is_cut = False
        self.is_running = False

    def start(self, listener: NodeListener) -> None:
        self.listener = listener
        self.is_running = True
        self.network.add(self)

    def stop(self) -> Deferred[None]:
        if self.is_running:
            self.is_running = False
            self.network.remove(self.node_id)
        return succeed(None)

    def crash(self) -> None:
        """Be gone, and noticed to be, without a word."""
        self.is_running = False
        self.network.lose(self.node_id)
        self.network.remove(self.node_id)

    def cut(self, *, is_noticed: bool = True) -> None:
        """Lose the connection.

        :param is_noticed: whether the others notice before it is back.
        """
        self.is_cut = True
        self.network.lose(self.node_id)
        self.nodes.clear()
        self.listener.disconnected()
        if is_noticed:
            self.network.forget(self.node_id)

    def heal(self) -> None:
        """Have the connection back."""
        self.is_cut = False
        self.network.reconnect(self)

    def broadcast(self, payload: bytes) -> Deferred[None]:
        return self._put(self.network.others_of, payload)

    def send(self, node_id: str, payload: bytes) -> Deferred[None]:
        return self._put(lambda _: [node_id], payload)

    def _put(self, receivers, payload: bytes) -> Deferred[None]:  # type: ignore[no-untyped-def]
        if self.is_cut or not self.is_running:
            return fail(Unavailable("cut off"))
        self.network.put(self.node_id, receivers(self.node_id), payload)
        return succeed(None)


class MemoryLog:
    """Provides a RevocationLog, which outlives the nodes.

    :ivar is_away: whether it cannot be reached.
    """

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], Revocation] = {}
        self.is_away = False

    def add(
        self, revocations: Sequence[Revocation], lifetime: float, max_entries: int
    ) -> Deferred[None]:
        if self.is_away:
            return fail(Unavailable("away"))
        for revocation in revocations:
            self.entries[revocation.kind, revocation.name] = revocation
        return succeed(None)

    def load(self) -> Deferred[list[Revocation]]:
        if self.is_away:
            return fail(Unavailable("away"))
        return succeed(list(self.entries.values()))
