"""The cluster's bus, over a mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, succeed

if TYPE_CHECKING:
    from stompauth.cluster.bus import NodeListener
    from stompauth.workers.mesh import Mesh

#: The kind of this bus' frames.
NODES: Final = 2


class MeshNodeBus:
    """Carries what the nodes of a cluster say, where the nodes are the workers of one machine.

    It is connected from its start on: with nobody, to begin with. A worker has left as soon as its
    connection ends.

    :param mesh: connects the workers. Who starts this starts the mesh after it.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._listener: NodeListener | None = None
        mesh.attach(self, NODES)

    @property
    def node_id(self) -> str:
        """The name of this worker."""
        return self._mesh.node_id

    def start(self, listener: NodeListener) -> None:
        """See :meth:`.NodeBus.start`."""
        self._listener = listener
        listener.connected()

    def stop(self) -> Deferred[None]:
        """See :meth:`.NodeBus.stop`; the others are told by the end of the mesh."""
        self._listener = None
        return succeed(None)

    def broadcast(self, payload: bytes) -> Deferred[None]:
        """See :meth:`.NodeBus.broadcast`."""
        self._mesh.broadcast(NODES, payload)
        return succeed(None)

    def send(self, node_id: str, payload: bytes) -> Deferred[None]:
        """See :meth:`.NodeBus.send`."""
        self._mesh.send(node_id, NODES, payload)
        return succeed(None)

    # What the mesh tells.

    def joined(self, node_id: str, *, is_new: bool) -> None:
        """See :meth:`.MeshUser.joined`."""
        if self._listener is not None:
            self._listener.joined(node_id)

    def left(self, node_id: str) -> None:
        """See :meth:`.MeshUser.left`."""
        if self._listener is not None:
            self._listener.left(node_id)

    def received(self, node_id: str, kind: int, payload: bytes) -> None:
        """See :meth:`.MeshUser.received`."""
        if self._listener is not None:
            self._listener.received(node_id, payload)

    def writable(self, node_id: str) -> None:
        """See :meth:`.MeshUser.writable`; nothing waits here."""
