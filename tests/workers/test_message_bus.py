"""Tests for the broker's bus over a mesh."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from stompauth.cluster.requests import TIMEOUT
from stompauth.errors import Unavailable
from stompauth.workers.mesh import LOOK_EVERY, Mesh
from stompauth.workers.message_bus import HIGH, MAX_WAITING, STALL_TIMEOUT, MeshMessageBus
from tests.workers.network import Network, Transport


class Broker:
    """Writes down what a bus brings."""

    def __init__(self) -> None:
        self.brought: list[tuple[str, bytes]] = []
        self.told: list[str] = []

    def bus_received(self, channel: str, payload: bytes) -> None:
        self.brought.append((channel, payload))

    def bus_connected(self) -> None:
        self.told.append("connected")

    def bus_lost(self) -> None:
        self.told.append("lost")


class MeshMessageBusTests(SynchronousTestCase):
    """Tests for MeshMessageBus, of two workers unless more are needed."""

    def setUp(self) -> None:
        self.network = Network()
        self.meshes: list[Mesh] = []
        self.buses: list[MeshMessageBus] = []
        self.brokers: list[Broker] = []

    def begin(self, count: int = 2) -> None:
        for index in range(count):
            self.add(index, count)
        self.network.pump()

    def add(self, index: int, count: int) -> None:
        mesh = self.network.mesh(index, count)
        bus = MeshMessageBus(mesh, self.network.clock)
        broker = Broker()
        bus.start(broker)
        mesh.start()
        self.meshes.append(mesh)
        self.buses.append(bus)
        self.brokers.append(broker)

    def tearDown(self) -> None:
        for mesh in self.meshes:
            if mesh._looks.running:
                mesh._looks.stop()
        self.assertEqual(
            [call for call in self.network.clock.getDelayedCalls() if "_stalled" in str(call)], []
        )

    def subscribe(self, worker: int, interest: str) -> None:
        done = self.buses[worker].subscribe(interest)
        self.network.pump()
        self.successResultOf(done)

    def wire(self, sender: int, receiver: int) -> Transport:
        return self.network.transport(self.meshes[sender], self.meshes[receiver])

    def test_connected_from_the_start(self) -> None:
        """A bus needs nobody else, and says that it is connected."""
        self.begin(1)
        self.assertEqual(self.brokers[0].told, ["connected"])
        self.subscribe(0, "topic:/topic/a")
        self.assertEqual(self.successResultOf(self.buses[0].publish("topic:/topic/a", b"1")), 1)
        self.assertEqual(self.brokers[0].brought, [("topic:/topic/a", b"1")])

    def test_only_who_is_interested(self) -> None:
        """A payload goes to the workers that are interested, and to no other one."""
        self.begin(3)
        self.subscribe(1, "topic:/topic/a")
        sent = len(self.wire(0, 2).other.arriving)
        self.assertEqual(self.successResultOf(self.buses[0].publish("topic:/topic/a", b"x\n\0")), 1)
        self.assertEqual(len(self.wire(0, 2).other.arriving), sent)
        self.network.pump()
        self.assertEqual(
            [broker.brought for broker in self.brokers], [[], [("topic:/topic/a", b"x\n\0")], []]
        )
        self.assertEqual(self.successResultOf(self.buses[0].publish("topic:/topic/b", b"y")), 0)

    def test_confirmed_when_all_know(self) -> None:
        """A subscription is there when every worker knows of it, and not before."""
        self.begin(3)
        done = self.buses[0].subscribe("topic:/topic/a")
        self.assertNoResult(done)
        self.network.pump()
        self.successResultOf(done)
        for bus in self.buses[1:]:
            self.successResultOf(bus.publish("topic:/topic/a", b"1"))
        self.network.pump()
        self.assertEqual(len(self.brokers[0].brought), 2)

    def test_no_confirm(self) -> None:
        """A worker that does not answer keeps nobody from a subscription for long."""
        self.begin()
        self.wire(0, 1).stick()
        done = self.buses[0].subscribe("topic:/topic/a")
        self.network.clock.advance(TIMEOUT - 0.1)
        self.assertNoResult(done)
        self.network.clock.advance(0.1)
        self.successResultOf(done)

    def test_no_confirm_of_one_that_ends(self) -> None:
        """Nor does a worker that ends."""
        self.begin()
        done = self.buses[0].subscribe("topic:/topic/a")
        self.network.kill(self.meshes[1], 1)
        self.successResultOf(done)
        self.assertEqual(self.brokers[0].told, ["connected"])

    def test_order_and_own_copy(self) -> None:
        """All of one channel, own copies too, come in the order of the calls."""
        self.begin()
        for worker in (0, 1):
            self.subscribe(worker, "topic:/topic/a")
        for number in range(20):
            reached = self.successResultOf(self.buses[0].publish("topic:/topic/a", b"%d" % number))
            self.assertEqual(reached, 2)
        self.network.pump()
        expected = [("topic:/topic/a", b"%d" % number) for number in range(20)]
        self.assertEqual([broker.brought for broker in self.brokers], [expected, expected])

    def test_prefixes(self) -> None:
        """An interest may be what names begin with; a payload comes once all the same."""
        self.begin()
        for interest in ("topic:*", "topic:/topic/a", "topic:/topic/*"):
            self.subscribe(1, interest)
        self.assertEqual(self.successResultOf(self.buses[0].publish("topic:/topic/a", b"1")), 1)
        self.assertEqual(self.successResultOf(self.buses[0].publish("topic:/x", b"2")), 1)
        self.assertEqual(self.successResultOf(self.buses[0].publish("user:x", b"3")), 0)
        self.network.pump()
        self.assertEqual(self.brokers[1].brought, [("topic:/topic/a", b"1"), ("topic:/x", b"2")])

    def test_unsubscribe(self) -> None:
        """What is not wanted any more does not come, even if it is under way."""
        self.begin()
        for interest in ("topic:/topic/a", "topic:/topic/b*"):
            self.subscribe(1, interest)
            self.buses[0].publish(interest.strip("*"), b"1")
            self.buses[1].unsubscribe(interest)
            self.network.pump()
            self.assertEqual(
                self.successResultOf(self.buses[0].publish(interest.strip("*"), b"2")), 0
            )
        self.assertEqual(self.brokers[1].brought, [])

    def test_a_new_worker(self) -> None:
        """A worker that comes later knows who is interested; one that has ended is not any more."""
        self.begin()
        self.network.kill(self.meshes[1], 1)
        for number in range(1001):
            self.subscribe(0, f"user:{number}")
        self.subscribe(0, "topic:*")
        self.add(1, 2)
        self.network.pump()
        for channel in ("user:0", "user:1000", "topic:/topic/ä"):
            self.assertEqual(self.successResultOf(self.buses[2].publish(channel, b"1")), 1)
        self.network.pump()
        self.assertEqual(len(self.brokers[0].brought), 3)
        self.subscribe(2, "topic:*")
        self.network.kill(self.meshes[2], 1)
        self.assertEqual(self.successResultOf(self.buses[0].publish("topic:/topic/a", b"1")), 1)
        self.assertEqual(self.brokers[0].told, ["connected"])

    def test_pause(self) -> None:
        """While a worker is paused nothing comes to it; after that all does, in its order."""
        self.begin()
        for worker in (0, 1):
            self.subscribe(worker, "topic:*")
        self.buses[1].pause()
        self.network.pump()
        done = [self.buses[worker].publish("topic:a", b"%d" % worker) for worker in (0, 1, 1)]
        self.network.pump()
        self.assertEqual([self.successResultOf(reached) for reached in done], [2, 2, 2])
        self.assertEqual(self.brokers[1].brought, [])
        self.assertEqual(len(self.brokers[0].brought), 3)
        self.buses[1].resume()
        self.network.pump()
        self.assertEqual(
            sorted(self.brokers[1].brought),
            [("topic:a", b"0"), ("topic:a", b"1"), ("topic:a", b"1")],
        )

    def test_a_new_worker_while_paused(self) -> None:
        """A pause is told to those that come later."""
        self.begin()
        self.subscribe(0, "topic:*")
        self.buses[0].pause()
        self.network.kill(self.meshes[1], 1)
        self.add(1, 2)
        self.network.pump()
        self.buses[2].publish("topic:a", b"1")
        self.network.pump()
        self.assertEqual(self.brokers[0].brought, [])
        self.buses[0].resume()
        self.network.pump()
        self.assertEqual(self.brokers[0].brought, [("topic:a", b"1")])

    def fill(self, receiver: int) -> list[Deferred[int]]:
        """Publish from the first worker until one has to wait."""
        done: list[Deferred[int]] = []
        while not done or done[-1].called:
            done.append(self.buses[0].publish("topic:a", bytes(HIGH // 4)))
            self.assertLess(len(done), 10)
        return done

    def test_publishers_wait(self) -> None:
        """Who publishes waits while a worker is behind with much, and goes on as it is not."""
        self.begin()
        for worker in (0, 1):
            with self.subTest(receiver=worker):
                self.subscribe(worker, "topic:*")
                self.buses[worker].pause()
                self.network.pump()
                done = self.fill(worker)
                self.buses[worker].resume()
                self.network.pump()
                self.assertEqual(self.successResultOf(done[-1]), 1)
                self.assertEqual(len(self.brokers[worker].brought), len(done))
                self.buses[worker].unsubscribe("topic:*")
                self.network.pump()

    def test_slow_connection(self) -> None:
        """What does not go out waits, and goes out in its order."""
        self.begin()
        self.subscribe(1, "topic:*")
        self.wire(0, 1).stick()
        done = self.fill(1)
        self.wire(0, 1).flow()
        self.network.pump()
        self.assertEqual(self.successResultOf(done[-1]), 1)
        self.assertEqual(len(self.brokers[1].brought), len(done))
        self.assertEqual(self.brokers[1].told, ["connected"])

    def check_gap(self) -> None:
        """The second worker has lost something, knows that, and can begin anew; the others not."""
        self.assertEqual(self.brokers[1].brought, [])
        self.assertEqual(self.brokers[1].told, ["connected", "lost", "connected"])
        self.assertEqual(self.brokers[0].told, ["connected"])
        self.assertEqual(self.successResultOf(self.buses[0].publish("topic:a", b"nobody")), 0)
        self.subscribe(1, "topic:a")
        self.buses[0].publish("topic:a", b"1")
        self.network.pump()
        self.assertEqual(self.brokers[1].brought, [("topic:a", b"1")])

    def test_stalled(self) -> None:
        """What has waited too long is dropped, its publishers go on, and the worker is told."""
        self.begin()
        self.subscribe(1, "topic:*")
        self.wire(0, 1).stick()
        done = self.fill(1)
        self.network.clock.pump([STALL_TIMEOUT / 4] * 3)
        self.assertNoResult(done[-1])
        self.network.clock.pump([STALL_TIMEOUT / 4])
        self.assertEqual(self.successResultOf(done[-1]), 1)
        self.wire(0, 1).flow()
        self.network.pump()
        self.check_gap()

    def test_too_much(self) -> None:
        """So is what is too much, for publishers that do not wait."""
        self.begin()
        self.subscribe(1, "topic:*")
        self.wire(0, 1).stick()
        for _ in range(MAX_WAITING // HIGH):
            self.buses[0].publish("topic:a", bytes(HIGH))
        self.assertEqual(list(self.buses[0]._prefixes), [])
        self.wire(0, 1).flow()
        self.network.pump()
        self.check_gap()

    def test_come_back(self) -> None:
        """Two that were apart may have missed something, and know it."""
        self.begin()
        for worker in (0, 1):
            self.subscribe(worker, "topic:*")
        self.meshes[0]._links[self.meshes[1].node_id].abort()
        self.network.pump()
        self.assertEqual(self.brokers[0].told, ["connected"])
        self.network.clock.advance(LOOK_EVERY)
        self.network.pump()
        for broker in self.brokers:
            self.assertEqual(broker.told, ["connected", "lost", "connected"])
        self.assertEqual(self.successResultOf(self.buses[0].publish("topic:a", b"1")), 0)
        self.subscribe(1, "topic:a")
        self.assertEqual(self.successResultOf(self.buses[0].publish("topic:a", b"1")), 1)

    def test_lost_while_asking(self) -> None:
        """What waits for a confirm fails when everything is void."""
        self.begin(3)
        self.wire(0, 1).stick()
        done = self.buses[0].subscribe("topic:a")
        self.meshes[2]._links[self.meshes[0].node_id].abort()
        self.network.clock.advance(LOOK_EVERY / 2)
        self.network.pump()
        self.network.clock.advance(LOOK_EVERY / 2 - 0.1)
        self.assertNoResult(done)
        self.meshes[0]._look()
        self.network.pump()
        self.failureResultOf(done, Unavailable)
        self.wire(0, 1).flow()

    def test_stop(self) -> None:
        """A bus that has stopped brings nothing, and keeps nothing."""
        self.begin()
        self.subscribe(0, "topic:*")
        self.subscribe(1, "topic:*")
        self.wire(0, 1).stick()
        self.buses[0].publish("topic:a", b"1")
        self.successResultOf(self.buses[0].stop())
        brought = len(self.brokers[0].brought)
        self.buses[1].publish("topic:a", b"2")
        self.network.pump()
        self.assertEqual(len(self.brokers[0].brought), brought)
        self.assertEqual(self.brokers[0].told, ["connected"])
