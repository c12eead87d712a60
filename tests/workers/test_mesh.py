"""Tests for the mesh of workers."""

from __future__ import annotations

import json

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from stompauth.workers.link import MAX_EXCESS, MAX_FRAME, frame
from stompauth.workers.mesh import LOOK_EVERY, SETTLE_TIMEOUT, Mesh
from tests.workers.network import Network

SAY = 2


class User:
    """Writes down what a mesh tells; says something to all that join."""

    def __init__(self, mesh: Mesh, greeting: bytes = b"") -> None:
        self.mesh = mesh
        self.greeting = greeting
        self.told: list[tuple[object, ...]] = []
        mesh.attach(self, SAY)

    def joined(self, node_id: str, *, is_new: bool) -> None:
        self.told.append(("joined", node_id, is_new))
        if self.greeting:
            self.mesh.send(node_id, SAY, self.greeting)

    def left(self, node_id: str) -> None:
        self.told.append(("left", node_id))

    def received(self, node_id: str, kind: int, payload: bytes) -> None:
        if payload == b"break":
            raise RuntimeError("broken")
        self.told.append(("received", node_id, payload))

    def writable(self, node_id: str) -> None:
        self.told.append(("writable", node_id))


class MeshTests(SynchronousTestCase):
    """Tests for Mesh."""

    def setUp(self) -> None:
        self.network = Network()
        self.meshes: list[Mesh] = []

    def start(self, index: int, count: int, greeting: bytes = b"") -> tuple[Mesh, User, list[None]]:
        """A worker that has been started, its user, and whether it is settled."""
        mesh = self.network.mesh(index, count)
        user = User(mesh, greeting)
        settled: list[None] = []
        mesh.start().addCallback(settled.append)
        self.meshes.append(mesh)
        return mesh, user, settled

    def tearDown(self) -> None:
        for mesh in self.meshes:
            if mesh._looks.running:
                mesh._looks.stop()

    def test_alone(self) -> None:
        """A worker without others is settled at once; one that finds nobody, when it knows that."""
        _, _, settled = self.start(0, 1)
        self.assertEqual(len(settled), 1)
        self.network = Network()
        _, _, settled = self.start(0, 3)
        self.assertEqual(settled, [])
        self.network.pump()
        self.assertEqual(len(settled), 1)

    def test_all_at_once(self) -> None:
        """Workers that start together, in whatever order, have one connection for each pair."""
        started = [self.start(index, 4) for index in (2, 0, 3, 1)]
        self.network.pump()
        for mesh, user, settled in started:
            others = {other.node_id for other, _, _ in started} - {mesh.node_id}
            self.assertEqual(set(mesh.nodes), others)
            self.assertEqual(len(settled), 1)
            joined = [told[1] for told in user.told if told[0] == "joined"]
            left = [told[1] for told in user.told if told[0] == "left"]
            for node_id in others:
                self.assertEqual(joined.count(node_id) - left.count(node_id), 1)
        open_ends = [end for end in self.network.transports if end.is_open]
        self.assertEqual(len(open_ends), 4 * 3)

    def test_told_before_it_is_settled(self) -> None:
        """What is said to a worker as it joins comes before it is settled."""
        self.start(0, 2, b"what you have to know")
        self.network.pump()
        _, user, settled = self.start(1, 2)
        while not settled:
            self.assertTrue(self.network._step())
        self.assertEqual(
            user.told,
            [
                ("joined", self.meshes[0].node_id, True),
                ("received", self.meshes[0].node_id, b"what you have to know"),
            ],
        )

    def test_one_that_does_not_answer(self) -> None:
        """A worker that does not answer is waited for, but not for ever."""

        class Silent:
            """Accepts, and says nothing."""

            def buildProtocol(self, addr: object) -> object:
                return Protocol()

        self.network.listening[0] = Silent()  # type: ignore[assignment]
        _, _, settled = self.start(1, 2)
        self.network.pump()
        self.network.clock.advance(SETTLE_TIMEOUT - 0.1)
        self.assertEqual(settled, [])
        self.network.clock.advance(0.1)
        self.assertEqual(len(settled), 1)

    def test_one_that_hangs_up(self) -> None:
        """Who hangs up is there: it connects itself, and until then nobody is settled."""

        class Busy(Protocol):
            """Has begun a connection of its own."""

            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.abortConnection()  # type: ignore[attr-defined]

        self.network.listening[1] = Factory.forProtocol(Busy)
        mesh, _, settled = self.start(0, 2)
        self.network.pump()
        self.assertEqual(settled, [])
        del self.network.listening[1]
        other, _, _ = self.start(1, 2)
        self.network.pump()
        self.assertEqual((len(settled), list(mesh.nodes)), (1, [other.node_id]))

    def test_order(self) -> None:
        """Frames to one and to all arrive in the order in which they were sent."""
        first, _, _ = self.start(0, 2)
        second, user, _ = self.start(1, 2)
        self.network.pump()
        for number in range(10):
            if number % 2:
                first.broadcast(SAY, b"%d" % number)
            else:
                first.send(second.node_id, SAY, b"%d" % number)
        self.network.pump()
        said = [told[2] for told in user.told if told[0] == "received"]
        self.assertEqual(said, [b"%d" % number for number in range(10)])

    def test_split(self) -> None:
        """A frame may come in pieces, and several in one; also an empty one, and a long one."""
        first, _, _ = self.start(0, 2)
        second, user, _ = self.start(1, 2)
        self.network.pump()
        link = second._links[first.node_id]
        payloads = [b"", b"a", b"b" * 300_000, b"c"]
        octets = b"".join(frame(SAY, payload) for payload in payloads)
        for size in (1_000, 65_536, len(octets)):
            user.told.clear()
            for start in range(0, len(octets), size):
                link.dataReceived(octets[start : start + size])
            self.assertEqual([told[2] for told in user.told], payloads)
        user.told.clear()
        for octet in frame(SAY, b"abc") * 2:
            link.dataReceived(bytes([octet]))
        self.assertEqual([told[2] for told in user.told], [b"abc", b"abc"])

    def test_too_long(self) -> None:
        """A frame that cannot be one of ours ends the connection before it is read."""
        first, user, _ = self.start(0, 2)
        second, _, _ = self.start(1, 2)
        self.network.pump()
        first._links[second.node_id].dataReceived((MAX_FRAME + 1).to_bytes(4) + b"\2")
        self.network.pump()
        self.assertEqual(user.told[-1], ("left", second.node_id))

    def test_left(self) -> None:
        """A worker that ends has left at once, and one that starts in its place is another."""
        first, user, _ = self.start(0, 2)
        second, _, _ = self.start(1, 2)
        self.network.pump()
        self.network.kill(second, 1)
        self.assertEqual(user.told[-1], ("left", second.node_id))
        self.assertEqual(list(first.nodes), [])
        third, _, settled = self.start(1, 2)
        self.network.pump()
        self.assertEqual(user.told[-1], ("joined", third.node_id, True))
        self.assertEqual(len(settled), 1)

    def test_comes_back(self) -> None:
        """Two whose connection alone has ended find each other again, and know that they had."""
        first, user, _ = self.start(0, 2)
        second, _, _ = self.start(1, 2)
        self.network.pump()
        first._links[second.node_id].abort()
        self.network.pump()
        self.assertEqual(list(first.nodes), [])
        self.network.clock.advance(LOOK_EVERY)
        self.network.pump()
        self.assertEqual(user.told[-1], ("joined", second.node_id, False))
        self.assertEqual(list(second.nodes), [first.node_id])

    def test_slow(self) -> None:
        """Who does not read is slow; when it reads on, that is told, and nothing was lost."""
        first, user, _ = self.start(0, 2)
        second, other, _ = self.start(1, 2)
        self.network.pump()
        self.assertFalse(first.is_slow(second.node_id))
        transport = self.network.transport(first, second)
        transport.stick()
        self.assertTrue(first.is_slow(second.node_id))
        first.send(second.node_id, SAY, b"later")
        transport.flow()
        self.network.pump()
        self.assertEqual(user.told[-1], ("writable", second.node_id))
        self.assertEqual(other.told[-1], ("received", first.node_id, b"later"))

    def test_far_too_slow(self) -> None:
        """What waits for a worker has a bound; past it, the connection ends, and that is told."""
        first, user, _ = self.start(0, 2)
        second, _, _ = self.start(1, 2)
        self.network.pump()
        self.network.transport(first, second).stick()
        for _ in range(16):
            first.send(second.node_id, SAY, bytes(MAX_EXCESS // 16 - 100))
        self.assertNotIn(("left", second.node_id), user.told)
        first.send(second.node_id, SAY, bytes(10_000))
        self.network.pump()
        self.assertEqual(user.told[-1], ("left", second.node_id))

    def test_strangers(self) -> None:
        """Who does not greet as a worker, or as one of other numbers, does not join."""
        mesh, user, _ = self.start(0, 2)
        self.network.pump()
        greetings = [
            frame(SAY, b"hello"),
            frame(0, b"\xff"),
            frame(0, b"{}"),
            frame(0, b"1"),
            frame(0, json.dumps([2, 1, "otherone"]).encode()),
            frame(0, json.dumps([1, 7, "otherone"]).encode()),
            frame(0, json.dumps([1, 0, "otherone"]).encode()),
            frame(0, json.dumps([1, [], "otherone"]).encode()),
            frame(0, json.dumps([1, 1, 5]).encode()),
        ]
        for greeting in greetings:
            link = self.network.listening[0].buildProtocol(None)  # type: ignore[arg-type]
            transport = Recorder()
            link.makeConnection(transport)  # type: ignore[union-attr, arg-type]
            link.dataReceived(greeting)  # type: ignore[union-attr]
            self.assertTrue(transport.aborted, greeting)
        self.assertEqual(user.told, [])
        self.assertEqual(list(mesh.nodes), [])

    def test_late_greeting(self) -> None:
        """Of two connections that cross, the one that is given up ends nothing, however late."""
        other, _, _ = self.start(0, 2)
        self.network.pump()
        mesh, user, _ = self.start(1, 2)
        self.network.pump()
        told = list(user.told)
        link = self.network.listening[1].buildProtocol(None)  # type: ignore[arg-type]
        transport = Recorder()
        link.makeConnection(transport)  # type: ignore[union-attr, arg-type]
        greeting = frame(0, json.dumps([1, 0, other.node_id]).encode())
        link.dataReceived(greeting)  # type: ignore[union-attr]
        self.assertTrue(transport.aborted)
        self.network.pump()
        self.assertEqual((user.told, list(mesh.nodes)), (told, [other.node_id]))

    def test_failing_user(self) -> None:
        """What a user cannot make sense of is logged, and the connection goes on."""
        first, _, _ = self.start(0, 2)
        second, user, _ = self.start(1, 2)
        self.network.pump()
        first.send(second.node_id, SAY, b"break")
        first.send(second.node_id, SAY, b"and on")
        self.network.pump()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(user.told[-1], ("received", first.node_id, b"and on"))

    def test_stop(self) -> None:
        """A worker that stops has left, and tries to reach nobody any more."""
        first, _, _ = self.start(0, 2)
        second, user, _ = self.start(1, 2)
        self.network.pump()
        self.successResultOf(first.stop())
        self.network.pump()
        self.assertEqual(user.told[-1], ("left", first.node_id))
        self.network.clock.advance(LOOK_EVERY)
        self.network.pump()
        self.assertEqual(list(first.nodes), [])
        self.assertEqual(list(second.nodes), [])


class Recorder:
    """A transport that tells whether it was given up."""

    aborted = False

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Take the producer."""

    def abortConnection(self) -> None:
        self.aborted = True

    def write(self, data: bytes) -> None:
        """Take it."""
