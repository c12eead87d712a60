"""The Redis client, its server played by the tests."""

from __future__ import annotations

import ast
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from stompauth import redis
from stompauth.errors import Unavailable
from stompauth.redis import (
    CONNECT_TIMEOUT,
    LONGEST_DELAY,
    MAX_REPLY,
    MAX_WAITING,
    MAX_WAITING_OCTETS,
    PING_INTERVAL,
    ErrorReply,
    Redis,
    RedisSubscriber,
    RedisURL,
)
from tests.test_layers import imports_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.protocol import Factory

PING = b"*1\r\n$4\r\nPING\r\n"


def command(*words: str) -> bytes:
    """A command as it goes over the wire."""
    octets = [word.encode() for word in words]
    return b"*%d\r\n" % len(octets) + b"".join(b"$%d\r\n%b\r\n" % (len(o), o) for o in octets)


def push(*words: str) -> bytes:
    """A message or a confirmation as it comes; a number is one."""
    elements = [
        b":%b\r\n" % word.encode()
        if word.isdigit()
        else b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode())
        for word in words
    ]
    return b"*%d\r\n" % len(words) + b"".join(elements)


class Line(StringTransport):
    """One connection, with the server's end of it."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self.aborted = False

    def sent(self) -> bytes:
        """What the client has sent since the last time."""
        octets = self.value()
        self.clear()
        return octets

    def answer(self, octets: bytes) -> None:
        """Send octets to the client."""
        self.protocol.dataReceived(octets)

    def lose(self) -> None:
        """The network ends the connection."""
        self.protocol.connectionLost(Failure(ConnectionLost()))

    def abortConnection(self) -> None:
        self.aborted = True
        self._server.clock.callLater(0, self.lose)


@implementer(IStreamClientEndpoint)
class Server:
    """Takes connections, or not.

    :ivar refuses: whether it does not.
    :ivar lines: its connections so far.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.refuses = False
        self.attempts: list[float] = []
        self.lines: list[Line] = []

    def connect(self, factory: Factory) -> Deferred[Any]:
        self.attempts.append(self.clock.seconds())
        if self.refuses:
            return fail(ConnectError(string="refused"))
        line = Line(self)
        protocol = factory.buildProtocol(None)
        line.protocol = protocol
        self.lines.append(line)
        protocol.makeConnection(line)
        connected: Deferred[Any] = Deferred()
        connected.callback(protocol)
        return connected

    @property
    def line(self) -> Line:
        """The latest connection."""
        return self.lines[-1]


C = TypeVar("C", Redis, RedisSubscriber)


class ClientTestCase(SynchronousTestCase, Generic[C]):
    """Tests of a client that has a server."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = Server(self.clock)
        self.patch(redis, "_endpoint", lambda *arguments: self.server)
        self.client = self.make()

    def tearDown(self) -> None:
        stopped = self.client.stop()
        self.clock.advance(0)
        self.successResultOf(stopped)

    def make(self) -> C:
        raise NotImplementedError

    def connect(self) -> Line:
        """Start, and answer the greeting."""
        self.client.start()
        line = self.server.line
        self.assertEqual(line.sent(), PING)
        self.assertFalse(self.client.is_connected)
        line.answer(b"+PONG\r\n")
        self.assertTrue(self.client.is_connected)
        return line

    def reconnect(self) -> Line:
        """Wait for the next connection."""
        before = len(self.server.lines)
        self.clock.pump([0.05] * 200)
        self.assertGreater(len(self.server.lines), before)
        return self.server.line

    def assertUnavailable(self, deferred: Deferred[Any]) -> str:
        """The Deferred has failed as one fails when Redis is away; the error's text."""
        return str(self.failureResultOf(deferred, Unavailable).value)


class RedisTests(ClientTestCase[Redis]):
    """Commands and their replies."""

    def make(self) -> Redis:
        return Redis(self.clock, RedisURL("redis.example.com"), timeout=1.0)

    def test_replies(self) -> None:
        """Replies come to the commands in order, each as what it is."""
        line = self.connect()
        texts = ("GET", "a b", "ü")
        replies = [self.client.execute(*texts) for _ in range(7)]
        self.assertEqual(line.sent(), 7 * command(*texts))
        octets = (
            b"$3\r\n007\r\n+OK\r\n:-5\r\n$-1\r\n*-1\r\n*0\r\n"
            b"*3\r\n*2\r\n$0\r\n\r\n+a\r\n$-1\r\n*1\r\n:1\r\n"
        )
        for octet in octets:
            line.answer(bytes([octet]))
        expected = [b"007", b"OK", -5, None, None, [], [[b"", b"a"], None, [1]]]
        self.assertEqual([self.successResultOf(reply) for reply in replies], expected)

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(st.binary(max_size=30) | st.integers() | st.none(), min_size=1, max_size=20),
        st.lists(st.integers(1, 40)),
    )
    def test_split_anywhere(self, values: list[Any], sizes: list[int]) -> None:
        """TK-8: whatever replies hold, and however TCP cuts them, each comes to its command."""
        self.tearDown()
        self.setUp()
        line = self.connect()
        replies = [self.client.execute("GET", "a") for _ in values]
        octets = b"".join(
            b"$-1\r\n"
            if value is None
            else b":%d\r\n" % value
            if isinstance(value, int)
            else b"$%d\r\n%b\r\n" % (len(value), value)
            for value in values
        )
        for size in sizes:
            line.answer(octets[:size])
            octets = octets[size:]
        line.answer(octets)
        self.assertEqual([self.successResultOf(reply) for reply in replies], values)

    def test_numbers(self) -> None:
        """Numbers go in decimal, bytes as they are."""
        line = self.connect()
        reply = self.client.execute("SET", b"\xff\r\n", -3, 0.25)
        self.assertEqual(
            line.sent(), b"*4\r\n$3\r\nSET\r\n$3\r\n\xff\r\n\r\n$2\r\n-3\r\n$4\r\n0.25\r\n"
        )
        line.answer(b"+OK\r\n")
        self.successResultOf(reply)

    def test_error(self) -> None:
        """An error is one wherever it stands, and repeats nothing of the command."""
        line = self.connect()
        for octets, kind in (
            (b"-ERR unknown command 'secret'\r\n", "ERR"),
            (b"-WRONGTYPE secret\r\n", "WRONGTYPE"),
            (b"*2\r\n+OK\r\n-OOM secret\r\n", "OOM"),
            (b"-secret\r\n", "ERR"),
        ):
            reply = self.client.execute("secret")
            line.answer(octets)
            error = self.failureResultOf(reply, ErrorReply).value
            self.assertEqual((error.kind, "secret" in str(error)), (kind, False))
        self.assertTrue(self.client.is_connected)

    def test_away(self) -> None:
        """TK-7: without a connection a command fails at once."""
        self.assertUnavailable(self.client.execute("GET", "a"))
        self.server.refuses = True
        self.client.start()
        self.assertUnavailable(self.client.execute("GET", "a"))

    def test_late(self) -> None:
        """TK-8: a late reply ends the connection, and is nobody's."""
        line = self.connect()
        first = self.client.execute("GET", "first")
        self.clock.advance(0.5)
        second = self.client.execute("GET", "second")
        self.clock.advance(0.5)
        self.assertIn("did not answer in time", self.assertUnavailable(first))
        self.assertUnavailable(second)
        self.assertTrue(line.aborted)
        self.assertFalse(self.client.is_connected)
        line.answer(b"$5\r\nfirst\r\n")
        line = self.reconnect()
        line.answer(b"+PONG\r\n")
        third = self.client.execute("GET", "third")
        self.assertNoResult(third)
        line.answer(b"$5\r\nthird\r\n")
        self.assertEqual(self.successResultOf(third), b"third")

    def test_cancelled(self) -> None:
        """TK-8: a command that is cancelled keeps its place: its reply goes to no other."""
        line = self.connect()
        first = self.client.execute("GET", "first")
        second = self.client.execute("GET", "second")
        first.cancel()
        self.failureResultOf(first)
        line.answer(b"$5\r\nfirst\r\n$6\r\nsecond\r\n")
        self.assertEqual(self.successResultOf(second), b"second")

    def test_each_has_its_time(self) -> None:
        """The time-out is each command's own, however many follow it."""
        line = self.connect()
        for _ in range(10):
            reply = self.client.execute("GET", "a")
            self.clock.pump(9 * [0.1])
            line.answer(b":1\r\n")
            self.successResultOf(reply)
        self.clock.pump(9 * [0.1])
        late = self.client.execute("GET", "a")
        self.clock.pump(9 * [0.11])
        self.assertNoResult(late)
        self.clock.advance(0.02)
        self.assertUnavailable(late)

    def test_stood_still(self) -> None:
        """RS-5: a turn of our own that was too long is not the server's silence, but that is."""
        line = self.connect()
        reply = self.client.execute("GET", "a")
        self.clock.advance(5)
        self.assertFalse(line.aborted)
        line.answer(b":1\r\n")
        self.successResultOf(reply)
        self.client.execute("GET", "a").addErrback(lambda _: None)
        self.clock.advance(5)
        self.clock.pump(11 * [0.1])
        self.assertTrue(line.aborted)

    def test_ping(self) -> None:
        """A silent server is asked now and then, and left when it does not answer."""
        line = self.connect()
        for _ in range(3):
            self.clock.advance(PING_INTERVAL)
            self.assertEqual(line.sent(), PING)
            self.clock.advance(0.5)
            line.answer(b"+PONG\r\n")
        self.clock.pump([0.1] * 35)
        self.assertFalse(self.client.is_connected)
        self.assertTrue(line.aborted)

    def test_lost(self) -> None:
        """What waits on a connection that is lost fails, and the next connection is its own."""
        line = self.connect()
        replies = [self.client.execute("GET", "a"), self.client.execute("GET", "b")]
        line.answer(b"$5\r\nhal")
        line.lose()
        for reply in replies:
            self.assertUnavailable(reply)
        self.assertFalse(self.client.is_connected)
        line = self.reconnect()
        line.answer(b"+PONG\r\n")
        reply = self.client.execute("GET", "a")
        line.answer(b":1\r\n")
        self.assertEqual(self.successResultOf(reply), 1)

    def test_back_off(self) -> None:
        """Attempts follow one another at growing distances, up to some seconds, for ever."""
        self.server.refuses = True
        self.client.start()
        self.clock.pump([0.01] * 20_000)
        times = self.server.attempts
        gaps = [after - before for before, after in pairwise(times)]
        self.assertLess(gaps[0], 0.11)
        self.assertGreater(gaps[0], 0.04)
        self.assertLess(max(gaps), LONGEST_DELAY + 0.1)
        self.assertGreater(min(gaps[-20:]), LONGEST_DELAY / 2 - 0.1)
        self.assertGreater(len(set(gaps[-20:])), 5)
        self.server.refuses = False
        self.clock.advance(LONGEST_DELAY)
        self.server.line.answer(b"+PONG\r\n")
        self.assertTrue(self.client.is_connected)
        self.server.line.lose()
        self.clock.advance(0.11)
        self.assertEqual(len(self.server.lines), 2)

    def test_logged_once(self) -> None:
        """The log says why Redis is away, and when it is back, and not every attempt."""
        with capturedLogs() as events:
            self.server.refuses = True
            self.client.start()
            self.clock.pump([1] * 100)
            self.server.refuses = False
            self.clock.advance(LONGEST_DELAY)
            self.server.line.answer(b"+PONG\r\n")
        levels = [event["log_level"].name for event in events]
        self.assertEqual(levels, ["warn", "info"])

    def test_greeting(self) -> None:
        """A user and a database are set before any command; an error in that is no connection."""
        url = RedisURL("redis.example.com", database=3, user="alice")
        self.client = Redis(self.clock, url, password="open sesame")
        self.client.start()
        for line_of in (lambda: self.server.line, self.reconnect):
            line = line_of()
            self.assertEqual(line.sent(), command("AUTH", "alice", "open sesame"))
            line.answer(b"-WRONGPASS no\r\n")
            self.assertFalse(self.client.is_connected)
            self.assertTrue(line.aborted)
        line = self.reconnect()
        line.sent()
        line.answer(b"+OK\r\n")
        self.assertEqual(line.sent(), command("SELECT", "3"))
        line.answer(b"+OK\r\n")
        self.assertEqual(line.sent(), PING)
        line.answer(b"+PONG\r\n")
        self.assertTrue(self.client.is_connected)

    def test_silent_greeting(self) -> None:
        """A server that accepts and is silent is left, and no command goes to it."""
        self.client.start()
        self.assertUnavailable(self.client.execute("GET", "a"))
        line = self.server.line
        self.clock.pump([0.5] * int(CONNECT_TIMEOUT / 0.5 + 1))
        self.assertTrue(line.aborted)
        self.assertEqual(line.sent(), PING)

    def test_loading(self) -> None:
        """A server that still loads its data is tried again."""
        self.client.start()
        self.server.line.answer(b"-LOADING Redis is loading the dataset in memory\r\n")
        self.assertFalse(self.client.is_connected)
        self.reconnect().answer(b"+PONG\r\n")
        self.assertTrue(self.client.is_connected)

    def test_read_only(self) -> None:
        """TK-7: who is sent to a replica connects anew: the name may stand for another by now."""
        line = self.connect()
        reply = self.client.execute("SET", "a", "b")
        line.answer(b"-READONLY You can't write against a read only replica.\r\n")
        self.assertUnavailable(reply)
        self.assertTrue(line.aborted)
        self.assertFalse(self.client.is_connected)

    def test_bounds(self) -> None:
        """What waits is bounded, by number and by octets; what was answered waits no more."""
        line = self.connect()
        replies = [self.client.execute("GET", "a") for _ in range(MAX_WAITING)]
        self.assertIn("too much", self.assertUnavailable(self.client.execute("GET", "a")))
        line.answer(b":1\r\n" * MAX_WAITING)
        for reply in replies:
            self.successResultOf(reply)
        large = self.client.execute("SET", "a", b"x" * (MAX_WAITING_OCTETS - 100))
        self.assertUnavailable(self.client.execute("SET", "a", b"x" * 100))
        line.answer(b"+OK\r\n")
        self.successResultOf(large)
        small = self.client.execute("SET", "a", b"x" * 100)
        line.answer(b"+OK\r\n")
        self.successResultOf(small)

    def test_not_redis(self) -> None:
        """A server that does not speak the protocol, or says too much, is left at once."""
        for octets in (
            b"HTTP/1.1 400 Bad Request\r\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"*x\r\n",
            b":x\r\n",
            b"+\xff\r\n",
            b"+" + b"x" * 20_000,
            b"$%d\r\n" % (MAX_REPLY + 1),
            b"*%d\r\n" % (MAX_REPLY + 1),
            b"*2\r\n$%d\r\n" % (MAX_REPLY - 1),
            b":1\r\n:2\r\n",
        ):
            self.tearDown()
            self.setUp()
            line = self.connect()
            reply = self.client.execute("GET", "a")
            line.answer(octets)
            self.assertTrue(line.aborted, octets)
            self.assertFalse(self.client.is_connected)
            if octets != b":1\r\n:2\r\n":
                self.assertUnavailable(reply)

    def test_scripts(self) -> None:
        """A script goes by its hash, and whole where Redis does not know it."""
        line = self.connect()
        reply = self.client.evaluate("return 1", ["key"], ["argument"])
        name = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
        self.assertEqual(line.sent(), command("EVALSHA", name, "1", "key", "argument"))
        line.answer(b"-NOSCRIPT No matching script.\r\n")
        self.assertEqual(line.sent(), command("EVAL", "return 1", "1", "key", "argument"))
        line.answer(b":1\r\n")
        self.assertEqual(self.successResultOf(reply), 1)
        reply = self.client.evaluate("return 1")
        line.answer(b"-BUSY no\r\n")
        self.assertUnavailable(reply)

    def test_stop(self) -> None:
        """Stopping ends the connection and what waits on it, and leaves no timer."""
        line = self.connect()
        reply = self.client.execute("GET", "a")
        stopped = self.client.stop()
        self.assertUnavailable(reply)
        self.assertTrue(line.aborted)
        self.assertNoResult(stopped)
        self.clock.advance(0)
        self.assertIsNone(self.successResultOf(stopped))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIsNone(self.successResultOf(self.client.stop()))
        self.client.start()
        self.assertEqual(len(self.server.lines), 2)

    def test_stop_at_any_time(self) -> None:
        """Stopping works between attempts and in the greeting, too."""
        self.server.refuses = True
        self.client.start()
        self.successResultOf(self.client.stop())
        self.server.refuses = False
        self.client.start()
        stopped = self.client.stop()
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_user_without_password(self) -> None:
        """A user without a password is a mistake, told at once."""
        url = RedisURL("redis.example.com", user="alice")
        self.assertRaises(ValueError, Redis, self.clock, url)


class RedisSubscriberTests(ClientTestCase[RedisSubscriber]):
    """Subscriptions and messages."""

    def make(self) -> RedisSubscriber:
        self.told: list[Any] = []
        self.failing = False
        return RedisSubscriber(
            self.clock,
            RedisURL("redis.example.com"),
            received=self.received,
            received_pattern=self.received,
            connected=self.tell("connected"),
            lost=self.tell("lost"),
        )

    def received(self, *words: Any) -> None:
        self.told.append(words)
        if self.failing:
            raise ValueError("not taken")

    def tell(self, word: str) -> Callable[[], None]:
        """A callback that tells the word."""
        return lambda: self.told.append(word)

    def test_subscribe(self) -> None:
        """A subscription is made when Redis has confirmed all of its channels."""
        line = self.connect()
        subscribed = self.client.subscribe("a", "b")
        patterned = self.client.psubscribe("c*")
        self.assertEqual(line.sent(), command("SUBSCRIBE", "a", "b") + command("PSUBSCRIBE", "c*"))
        line.answer(push("subscribe", "a", "1") + push("message", "a", "early"))
        self.assertNoResult(subscribed)
        line.answer(push("subscribe", "b", "2"))
        self.assertIsNone(self.successResultOf(subscribed))
        self.assertNoResult(patterned)
        line.answer(push("psubscribe", "c*", "3") + push("pmessage", "c*", "cd", "late"))
        self.assertIsNone(self.successResultOf(patterned))
        self.assertEqual(self.told, ["connected", ("a", b"early"), ("c*", "cd", b"late")])

    def test_unsubscribe(self) -> None:
        """What was unsubscribed is not subscribed to again; nothing at all is no command."""
        line = self.connect()
        self.client.subscribe("a", "b")
        line.answer(push("subscribe", "a", "1") + push("subscribe", "b", "2"))
        line.sent()
        gone = self.client.unsubscribe("a")
        self.successResultOf(self.client.unsubscribe())
        self.successResultOf(self.client.subscribe())
        self.assertEqual(line.sent(), command("UNSUBSCRIBE", "a"))
        line.answer(push("unsubscribe", "a", "1"))
        self.successResultOf(gone)
        line.lose()
        self.successResultOf(self.client.unsubscribe("c"))
        line = self.reconnect()
        line.sent()
        line.answer(b"+PONG\r\n")
        self.assertEqual(line.sent(), command("SUBSCRIBE", "b"))

    def test_unsubscribed_whatever_waits(self) -> None:
        """RS-2: many who leave at once leave no channel behind at Redis."""
        self.patch(redis, "MAX_WAITING", 2)
        line = self.connect()
        self.client.subscribe("a", "b")
        line.answer(push("subscribe", "a", "1") + push("subscribe", "b", "2"))
        for name in "cd":
            self.client.subscribe(name).addErrback(lambda _: None)
        self.failureResultOf(self.client.subscribe("e"), Unavailable)
        line.sent()
        self.client.unsubscribe("a")
        self.client.unsubscribe("b")
        self.assertEqual(line.sent(), command("UNSUBSCRIBE", "a") + command("UNSUBSCRIBE", "b"))

    def test_steadily(self) -> None:
        """RS-2: many who leave at once do not cost the others the connection: silence does."""
        line = self.connect()
        self.client.subscribe("a", "b", "c")
        line.answer(b"".join(push("subscribe", name, "1") for name in "abc"))
        for name in "abc":
            self.client.unsubscribe(name)
        for name in "ab":
            self.clock.advance(0.9)
            line.answer(push("unsubscribe", name, "1"))
        self.clock.advance(0.9)
        self.assertFalse(line.aborted)
        self.clock.advance(0.1)
        self.assertTrue(line.aborted)

    def test_again(self) -> None:
        """After a loss everything is subscribed to again before it counts as connected."""
        line = self.connect()
        self.assertUnavailable_after_loss(line)
        line = self.reconnect()
        line.sent()
        line.answer(b"+PONG\r\n")
        self.assertEqual(line.sent(), command("SUBSCRIBE", "a"))
        line.answer(push("subscribe", "a", "1"))
        self.assertEqual(line.sent(), command("PSUBSCRIBE", "b*"))
        self.assertFalse(self.client.is_connected)
        line.answer(push("psubscribe", "b*", "2"))
        self.assertTrue(self.client.is_connected)
        self.assertEqual(self.told, ["connected", "lost", "connected"])

    def assertUnavailable_after_loss(self, line: Line) -> None:
        """Subscribing while the connection is lost, and after it, fails, and is remembered."""
        subscribed = self.client.subscribe("a")
        line.lose()
        self.assertUnavailable(subscribed)
        self.assertUnavailable(self.client.psubscribe("b*"))

    def test_meanwhile(self) -> None:
        """What is added and dropped while all is subscribed to again counts."""
        names = [f"channel-{number}" for number in range(800)]
        for name in names:
            self.assertUnavailable(self.client.subscribe(name))
        self.client.start()
        line = self.server.line
        line.answer(b"+PONG\r\n")
        line.sent()
        dropped = self.client.unsubscribe(names[-1])
        added = self.client.subscribe("new")
        line.sent()
        line.answer(b"".join(push("subscribe", name, "1") for name in names[:500]))
        self.assertNotIn(names[-1].encode(), line.value())
        self.assertEqual(line.sent(), command("SUBSCRIBE", *names[500:-1]))
        line.answer(push("unsubscribe", names[-1], "1") + push("subscribe", "new", "1"))
        self.successResultOf(dropped)
        self.successResultOf(added)
        line.answer(b"".join(push("subscribe", name, "1") for name in names[500:-1]))
        self.assertTrue(self.client.is_connected)

    def test_refused(self) -> None:
        """What Redis refuses is forgotten, and spoils no later connection."""
        line = self.connect()
        refused = self.client.subscribe("a", "b")
        line.answer(b"-NOPERM no\r\n")
        self.failureResultOf(refused, ErrorReply)
        fine = self.client.subscribe("c")
        line.answer(push("subscribe", "c", "1"))
        self.successResultOf(fine)
        line.lose()
        line = self.reconnect()
        line.sent()
        line.answer(b"+PONG\r\n")
        self.assertEqual(line.sent(), command("SUBSCRIBE", "c"))

    def test_ping(self) -> None:
        """A PING has the one reply in either mode, and a silent server is left."""
        line = self.connect()
        self.client.subscribe("a")
        line.answer(push("subscribe", "a", "1"))
        line.sent()
        self.clock.advance(PING_INTERVAL)
        self.assertEqual(line.sent(), PING)
        line.answer(push("pong", ""))
        subscribed = self.client.subscribe("b")
        line.answer(push("subscribe", "b", "2"))
        self.successResultOf(subscribed)
        self.clock.pump([0.1] * 35)
        self.assertFalse(self.client.is_connected)
        self.assertEqual(self.told, ["connected", "lost"])

    def test_failing_callbacks(self) -> None:
        """A message that its receiver fails on is logged, and the connection goes on."""
        line = self.connect()
        self.failing = True
        line.answer(push("message", "a", "one") + push("message", "a", "two"))
        self.assertEqual(self.told[1:], [("a", b"one"), ("a", b"two")])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertTrue(self.client.is_connected)

    def test_stop(self) -> None:
        """Stopping tells that the connection is over, once."""
        self.connect()
        stopped = self.client.stop()
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.assertEqual(self.told, ["connected", "lost"])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ExtraTests(SynchronousTestCase):
    """txredisapi is an extra, and imports the global reactor."""

    def test_late(self) -> None:
        """Nothing imports it but the first client, when the reactor has been chosen."""
        source = Path(redis.__file__).read_text("utf-8")
        found = [each for each in imports_of(ast.parse(source)) if "txredisapi" in each.name]
        self.assertEqual([each.in_function for each in found], [True])

    def test_missing(self) -> None:
        """Without it a client cannot be made, and the error says what to install."""
        self.addCleanup(redis._parser.cache_clear)
        redis._parser.cache_clear()
        known = sys.modules.get("txredisapi")
        sys.modules["txredisapi"] = None  # type: ignore[assignment]
        if known is not None:
            self.addCleanup(sys.modules.__setitem__, "txredisapi", known)
        else:
            self.addCleanup(sys.modules.pop, "txredisapi")
        url = RedisURL("redis.example.com")
        error = self.assertRaises(ImportError, Redis, MemoryReactorClock(), url)
        self.assertIn("stompauth[redis]", str(error))


class RedisURLTests(SynchronousTestCase):
    """The URLs of configuration."""

    def test_parse(self) -> None:
        """Host, port, database, user and TLS are read, and written back."""
        for text, url, canonical in (
            ("redis://a", RedisURL("a"), "redis://a:6379/0"),
            ("rediss://a/", RedisURL("a", tls=True), "rediss://a:6379/0"),
            ("redis://a:1/15", RedisURL("a", 1, 15), "redis://a:1/15"),
            ("redis://u%40v@a", RedisURL("a", user="u@v"), "redis://u%40v@a:6379/0"),
            ("redis://[::1]:7", RedisURL("::1", 7), "redis://[::1]:7/0"),
        ):
            self.assertEqual(RedisURL.parse(text), url)
            self.assertEqual(str(url), canonical)
            self.assertEqual(RedisURL.parse(canonical), url)

    def test_mistakes(self) -> None:
        """What is none is told, without repeating it."""
        for text, words in (
            ("redis://u:open-sesame@a", "use password_file"),
            ("redis://:open-sesame@a", "use password_file"),
            ("http://open-sesame", "begins with redis://"),
            ("open-sesame", "begins with redis://"),
            ("redis://", "redis://[user@]host"),
            ("redis:///0", "redis://[user@]host"),
            ("redis://a/open-sesame", "redis://[user@]host"),
            ("redis://a/-1", "redis://[user@]host"),
            ("redis://a/0?password=open-sesame", "redis://[user@]host"),
            ("redis://a/0#open-sesame", "redis://[user@]host"),
            ("redis://a:open-sesame", "not a URL"),
            ("redis://a:70000", "not a URL"),
            ("redis://a:0", "redis://[user@]host"),
            ("redis://open sesame", "redis://[user@]host"),
            ("redis://a\n", "redis://[user@]host"),
            ("redis://a%b", "redis://[user@]host"),
            ("redis://\N{GREEK SMALL LETTER ALPHA}", "redis://[user@]host"),
        ):
            error = self.assertRaises(ValueError, RedisURL.parse, text)
            self.assertIn(words, str(error), text)
            self.assertNotIn("sesame", str(error))
