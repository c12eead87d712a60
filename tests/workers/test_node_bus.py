"""Tests for the cluster's bus over a mesh."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.workers.mesh import Mesh
from stompauth.workers.node_bus import MeshNodeBus
from tests.workers.network import Network


class Node:
    """Writes down what a bus tells; sends what it knows to whoever joins."""

    def __init__(self, bus: MeshNodeBus) -> None:
        self.bus = bus
        self.told: list[tuple[object, ...]] = []

    def connected(self) -> None:
        self.told.append(("connected",))

    def disconnected(self) -> None:
        self.told.append(("disconnected",))

    def joined(self, node_id: str) -> None:
        self.told.append(("joined", node_id))
        self.bus.send(node_id, b"known")

    def left(self, node_id: str) -> None:
        self.told.append(("left", node_id))

    def received(self, node_id: str, payload: bytes) -> None:
        self.told.append(("received", node_id, payload))


class MeshNodeBusTests(SynchronousTestCase):
    """Tests for MeshNodeBus."""

    def setUp(self) -> None:
        self.network = Network()
        self.meshes: list[Mesh] = []

    def tearDown(self) -> None:
        for mesh in self.meshes:
            if mesh._looks.running:
                mesh._looks.stop()

    def add(self, index: int, count: int) -> Node:
        mesh = self.network.mesh(index, count)
        self.meshes.append(mesh)
        node = Node(MeshNodeBus(mesh))
        node.bus.start(node)
        mesh.start()
        return node

    def test_two(self) -> None:
        """Two workers hear of one another, what each knows, and what they send, in order."""
        first, second = self.add(0, 2), self.add(1, 2)
        self.network.pump()
        self.assertNotEqual(first.bus.node_id, second.bus.node_id)
        self.successResultOf(first.bus.broadcast(b"to all"))
        self.successResultOf(first.bus.send(second.bus.node_id, b"to one"))
        self.network.pump()
        them = first.bus.node_id
        self.assertEqual(
            second.told,
            [
                ("connected",),
                ("joined", them),
                ("received", them, b"known"),
                ("received", them, b"to all"),
                ("received", them, b"to one"),
            ],
        )

    def test_ends(self) -> None:
        """A worker that is gone has left at once; this one is cut off by nothing."""
        first, second = self.add(0, 2), self.add(1, 2)
        self.network.pump()
        self.network.kill(self.meshes[0], 0)
        self.assertEqual(second.told[-1], ("left", first.bus.node_id))
        self.successResultOf(second.bus.send(first.bus.node_id, b"in vain"))
        self.assertNotIn(("disconnected",), second.told)

    def test_stop(self) -> None:
        """Nothing is told after the stop."""
        first, second = self.add(0, 2), self.add(1, 2)
        self.network.pump()
        told = len(second.told)
        self.successResultOf(second.bus.stop())
        first.bus.broadcast(b"late")
        self.network.pump()
        self.network.kill(self.meshes[0], 0)
        self.assertEqual(len(second.told), told)
