"""Workers in memory: their connections, and when what is on them arrives, are the test's."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twisted.internet import error
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from stompauth.workers.mesh import Mesh

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory


class Transport:
    """One end of a connection.

    :ivar is_stuck: whether nothing leaves it, as when the other side does not read.
    """

    disconnecting = False

    def __init__(self, network: Network) -> None:
        self.network = network
        self.other: Transport
        self.protocol: Any = None
        self.producer: Any = None
        self.arriving: deque[bytes] = deque()
        self.held: list[bytes] = []
        self.is_stuck = False
        self.is_open = True
        self.is_closing = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.network.written.append(data)
        (self.held if self.is_stuck else self.other.arriving).append(data)

    def stick(self) -> None:
        """Let nothing out any more."""
        self.is_stuck = True
        self.producer.pauseProducing()

    def flow(self) -> None:
        """Let everything out again."""
        self.is_stuck = False
        self.other.arriving.extend(self.held)
        self.held.clear()
        self.producer.resumeProducing()

    def abortConnection(self) -> None:
        if self.is_open:
            self.other.arriving.clear()
            self.loseConnection()

    def loseConnection(self) -> None:
        for end in (self, self.other):
            if end.is_open and not end.is_closing:
                end.is_closing = True
                self.network.closing.append(end)

    def deliver(self) -> bool:
        """Bring the next octets, and say whether there were any."""
        if not self.arriving or not self.is_open:
            return False
        self.protocol.dataReceived(self.arriving.popleft())
        return True

    def lost(self) -> None:
        """The connection is gone."""
        if self.is_open:
            self.is_open = False
            self.protocol.connectionLost(Failure(error.ConnectionDone()))


class Network:
    """Where the workers of a test listen, and their connections.

    :ivar written: all that was written on any of these.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.listening: dict[int, IProtocolFactory] = {}
        self.transports: list[Transport] = []
        self.written: list[bytes] = []
        self.closing: list[Transport] = []
        self.connecting: list[tuple[int, IProtocolFactory, Deferred[Any]]] = []

    def mesh(self, index: int, count: int) -> Mesh:
        """The mesh of a worker."""
        others = {other: Endpoint(self, other) for other in range(count) if other != index}
        own: Any = Endpoint(self, index)
        clients: Any = others
        return Mesh(index, own, clients, self.clock)

    def pump(self) -> None:
        """Let everything arrive."""
        while self._step():
            pass

    def _step(self) -> bool:
        if self.connecting:
            self._connect(*self.connecting.pop(0))
            return True
        for transport in self.transports:
            if transport.deliver():
                return True
        if self.closing:
            self.closing.pop(0).lost()
            return True
        return False

    def _connect(self, index: int, factory: IProtocolFactory, connected: Deferred[Any]) -> None:
        listener = self.listening.get(index)
        if listener is None:
            connected.errback(error.ConnectionRefusedError())
            return
        ends = Transport(self), Transport(self)
        ends[0].other, ends[1].other = ends[1], ends[0]
        self.transports += ends
        for end, maker in zip(ends, (factory, listener), strict=True):
            # Nobody's address.
            protocol: Any = maker.buildProtocol(None)  # type: ignore[arg-type]
            end.protocol = protocol
            protocol.makeConnection(end)
        connected.callback(None)

    def transport(self, mesh: Mesh, other: Mesh) -> Transport:
        """One worker's end of its connection with another."""
        link = mesh._links[other.node_id]
        return next(found for found in self.transports if found.protocol is link)

    def kill(self, mesh: Mesh, index: int) -> None:
        """End a worker without a word."""
        del self.listening[index]
        mesh._looks.stop()
        for link in list(mesh._links.values()):
            end = next(found for found in self.transports if found.protocol is link)
            end.is_open = False
            self.closing.append(end.other)
        self.pump()


class Endpoint:
    """Where one worker listens, for itself and for others."""

    def __init__(self, network: Network, index: int) -> None:
        self._network = network
        self._index = index

    def listen(self, factory: IProtocolFactory) -> Deferred[Any]:
        self._network.listening[self._index] = factory
        return succeed(self)

    def stopListening(self) -> None:
        del self._network.listening[self._index]

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        connected: Deferred[Any] = Deferred()
        self._network.connecting.append((self._index, factory, connected))
        return connected
