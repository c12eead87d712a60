"""Tests of stompauth.cluster.redis_bus, with a Redis that is a few lines of Python."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from stompauth.cluster.messages import MAX_PAYLOAD
from stompauth.cluster.redis_bus import (
    BEAT,
    HURRY,
    MAX_NODES,
    SILENCE,
    RedisNodeBus,
)
from stompauth.errors import Unavailable
from stompauth.redis import ErrorReply, Redis, RedisSubscriber


class Server:
    """Publishes to whoever has subscribed, at once.

    :ivar refuses: whether PUBLISH is answered with an error.
    """

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.refuses = False
        self._published: deque[tuple[str, bytes]] = deque()

    def publish(self, channel: str, octets: bytes) -> None:
        self._published.append((channel, octets))
        if len(self._published) > 1:
            return
        while self._published:
            channel, octets = self._published[0]
            for connection in list(self.connections):
                if connection.is_up and channel in connection.channels:
                    connection.received(channel, octets)
            self._published.popleft()


class Connection:
    """What a node has of it: both connections in one."""

    received: Callable[[str, bytes], object]
    connected: Callable[[], object]
    lost: Callable[[], object]

    def __init__(self, server: Server) -> None:
        self.server = server
        self.channels: set[str] = set()
        self.is_up = False
        self.can_publish = True

    def subscriber(self, **callbacks: Any) -> RedisSubscriber:
        self.__dict__.update(callbacks)
        return cast("RedisSubscriber", self)

    def subscribe(self, *channels: str) -> Deferred[None]:
        self.channels.update(channels)
        return fail(Unavailable("away"))

    def start(self) -> None:
        if self not in self.server.connections:
            self.server.connections.append(self)

    def stop(self) -> Deferred[None]:
        self.is_up = False
        return succeed(None)

    def go_up(self) -> None:
        self.is_up = True
        self.connected()

    def go_down(self) -> None:
        self.is_up = False
        self.lost()

    def execute(self, *command: Any) -> Deferred[Any]:
        if not self.is_up or not self.can_publish:
            return fail(Unavailable("away"))
        if self.server.refuses:
            return fail(ErrorReply("NOPERM no"))
        name, channel, octets = command
        assert name == "PUBLISH"
        self.server.publish(channel, octets)
        return succeed(1)


class Listener:
    """What a bus tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *facts: self.told.append((name, *facts))

    def take(self) -> list[Any]:
        told, self.told = self.told, []
        return told


class BusNode:
    """A bus, with what it tells."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self.connection = Connection(server)
        redis = cast("Redis", self.connection)
        self.bus = RedisNodeBus(clock, redis, self.connection.subscriber, "s:0:nodes")
        self.listener = Listener()

    @property
    def name(self) -> str:
        return self.bus.node_id

    def start(self) -> None:
        self.bus.start(cast("Any", self.listener))
        self.connection.go_up()


class RedisNodeBusTests(SynchronousTestCase):
    """Membership and messages by pub/sub."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = Server()
        self.one, self.two = BusNode(self.server, self.clock), BusNode(self.server, self.clock)

    def start(self) -> None:
        for node in (self.one, self.two):
            node.start()
        for node in (self.one, self.two):
            node.listener.take()

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.5)):
            self.clock.advance(0.5)

    def test_join(self) -> None:
        """Nodes hear of one another at once, each first that it is connected itself."""
        self.one.start()
        self.assertEqual(self.one.listener.take(), [("connected",)])
        self.two.start()
        self.assertEqual(self.one.listener.take(), [("joined", self.two.name)])
        self.assertEqual(self.two.listener.take(), [("connected",), ("joined", self.one.name)])
        self.assertNotEqual(self.one.name, self.two.name)

    def test_messages(self) -> None:
        """What is sent arrives at all others, or at one; and not at the sender."""
        self.start()
        three = BusNode(self.server, self.clock)
        three.start()
        nodes = (self.one, self.two, three)
        for node in nodes:
            node.listener.take()
        self.successResultOf(self.one.bus.broadcast(b"to all\nof you\x00\xff"))
        self.successResultOf(self.one.bus.send(self.two.name, b""))
        self.assertEqual(
            [node.listener.take() for node in nodes],
            [
                [],
                [
                    ("received", self.one.name, b"to all\nof you\x00\xff"),
                    ("received", self.one.name, b""),
                ],
                [("received", self.one.name, b"to all\nof you\x00\xff")],
            ],
        )

    def test_leave(self) -> None:
        """Who stops is gone for the others at once, and is told nothing any more."""
        self.start()
        self.successResultOf(self.one.bus.stop())
        self.assertEqual(self.two.listener.take(), [("left", self.one.name)])
        self.successResultOf(self.two.bus.broadcast(b"x"))
        self.advance(2 * SILENCE)
        self.assertEqual(self.one.listener.take(), [])
        self.successResultOf(self.two.bus.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silence(self) -> None:
        """A node that says nothing is gone after a while, and not before."""
        self.start()
        self.one.connection.is_up = False
        self.advance(SILENCE)
        self.assertEqual(self.two.listener.take(), [])
        self.advance(2 * BEAT)
        self.assertEqual(self.two.listener.take(), [("left", self.one.name)])
        self.one.connection.is_up = True
        self.advance(2 * BEAT)
        self.assertEqual(self.two.listener.take(), [("joined", self.one.name)])

    def test_life(self) -> None:
        """Nodes that have nothing to say stay."""
        self.start()
        self.advance(10 * SILENCE)
        self.assertEqual((self.one.listener.take(), self.two.listener.take()), ([], []))

    def test_connection_lost(self) -> None:
        """A lost connection cuts a node off; what was sent meanwhile it never hears."""
        self.start()
        self.one.connection.go_down()
        self.assertEqual(self.one.listener.take(), [("disconnected",)])
        self.failureResultOf(self.one.bus.broadcast(b"x"), Unavailable)
        self.two.bus.broadcast(b"missed")
        self.one.connection.go_up()
        told = self.one.listener.take()
        self.assertEqual(told, [("connected",), ("joined", self.two.name)])

    def test_deaf(self) -> None:
        """A node that does not hear itself any more is cut off, though its connection stands."""
        self.start()
        self.one.connection.can_publish = False
        self.advance(SILENCE + 2 * BEAT)
        self.assertEqual(self.one.listener.take()[-1], ("disconnected",))
        self.one.connection.can_publish = True
        self.clock.advance(BEAT + HURRY)
        self.assertEqual(self.one.listener.take()[0], ("connected",))

    def test_commands_later(self) -> None:
        """A node is connected when both of its connections are there, in whatever order."""
        self.one.connection.can_publish = False
        self.one.start()
        self.advance(2)
        self.assertEqual(self.one.listener.take(), [])
        self.one.connection.can_publish = True
        self.clock.advance(HURRY)
        self.assertEqual(self.one.listener.take(), [("connected",)])

    def test_stall(self) -> None:
        """A node that was busy for long does not take the others for silent, or itself for deaf."""
        self.start()
        self.advance(2)
        down, self.two.connection.is_up = self.two.connection.is_up, False
        self.one.connection.can_publish = False
        self.clock.advance(3 * SILENCE)
        self.assertEqual(self.one.listener.take(), [])
        self.two.connection.is_up = down
        self.one.connection.can_publish = True
        self.advance(2 * BEAT)
        self.assertEqual(self.one.listener.take(), [])

    def test_refused(self) -> None:
        """A Redis that does not let us publish is told of once."""
        self.server.refuses = True
        with capturedLogs() as events:
            self.one.start()
            self.advance(3)
        self.assertEqual(self.one.listener.take(), [])
        self.assertEqual(len(events), 1)
        self.assertIn("NOPERM", str(events[0]))

    def test_foreign(self) -> None:
        """Octets that no node has sent are passed over."""
        self.start()
        for octets in (
            b"",
            b"x",
            b"m",
            b"m\nx",
            b"xabc\nx",
            b"m../..\nx",
            b"m\xff\nx",
            b"m" + b"a" * 65 + b"\nx",
            b"mabc\n" + b"x" * (MAX_PAYLOAD + 200),
        ):
            self.server.publish("s:0:nodes", octets)
        self.assertEqual(self.one.listener.take(), [])

    def test_most_nodes(self) -> None:
        """RS-2: there is a most of nodes, and one line tells that it is reached."""
        self.start()
        with capturedLogs() as events:
            for number in range(MAX_NODES + 5):
                self.server.publish("s:0:nodes", b"bnode-%d\n" % number)
        joined = [told for told in self.one.listener.take() if told[0] == "joined"]
        self.assertEqual(len(joined), MAX_NODES - 1)
        errors = [event for event in events if "rest" in str(event["log_format"])]
        self.assertEqual(len(errors), 2)
