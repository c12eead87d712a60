"""Tests of stompauth.fastio.output."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import tcp
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from stompauth.counters import Counters
from stompauth.fastio import output
from stompauth.fastio.output import (
    PIECE,
    SENDS,
    STEP,
    TURN,
    Output,
    Turns,
    is_drained,
    socket_of,
)


class Socket:
    """A socket that takes so many octets at a time, and then none until it was read.

    :ivar room: octets that it takes still.
    """

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.taken = b""
        self.sends = 0

    def send(self, data: bytes) -> int:
        self.sends += 1
        taken = data[: self.room]
        if not taken:
            raise BlockingIOError
        self.taken += taken
        self.room -= len(taken)
        return len(taken)


class Server(tcp.Server):
    """Twisted's transport over such a socket; the test says when it is writable."""

    def __init__(self, socket: Socket) -> None:
        super(tcp.Connection, self).__init__(reactor=object())
        self.socket = socket
        self.connected = 1
        self.is_writing = False

    def startWriting(self) -> None:
        self.is_writing = True

    def stopWriting(self) -> None:
        self.is_writing = False

    def writeSomeData(self, data: bytes) -> int:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0

    def _postLoseConnection(self) -> None:
        self.disconnected = 1

    @property
    def held(self) -> int:
        return len(self.dataBuffer) - self.offset + self._tempDataLen


class Protocol:
    """What an output belongs to: tells the session of blocks, and keeps a record."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.output: Output
        self.blocks = 0
        self.resumptions = 0
        self.overflows = 0
        self.aborted = False

    def pauseProducing(self) -> None:
        self.blocks += 1
        self.output.block()

    def resumeProducing(self) -> None:
        self.resumptions += 1
        self.output.unblock()

    def overflowed(self) -> None:
        self.overflows += 1

    def abort(self) -> None:
        self.aborted = True


class OutputTestCase(SynchronousTestCase):
    """An output over a socket."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.turns = Turns(self.clock, Counters())
        self.make()

    def make(self, room: int = 1 << 30, limit: int = 0) -> None:
        self.patch(output, "_DIRECT", (Server,))
        self.socket = Socket(room)
        self.transport = Server(self.socket)
        self.protocol = Protocol(self.transport)
        self.output = Output(self.protocol, self.turns)  # type: ignore[arg-type]
        self.protocol.output = self.output
        self.output.open()
        self.output.bind(limit, self.protocol)

    def drain(self, octets: int) -> None:
        """The client reads so much; the transport writes what it can."""
        self.socket.room += octets
        if self.transport.is_writing:
            self.transport.doWrite()


class TurnTests(OutputTestCase):
    """What was written in a turn goes out at its end, in one send."""

    def test_ping(self) -> None:
        """A ping is no heart-beat; a frame that goes out beside one is."""
        self.output.write_control(b"ping")
        self.clock.advance(0)
        self.assertEqual((self.socket.taken, self.output.written_at), (b"ping", 0))
        self.output.write_control(b"ping")
        self.output.write(b"frame")
        self.clock.advance(0)
        self.assertEqual(self.output.written_at, 100)
        self.clock.advance(1)
        self.output.write_control(b"ping")
        self.clock.advance(0)
        self.assertEqual(self.output.written_at, 100)

    def test_one_send(self) -> None:
        """Several frames of one turn are one send, straight to the socket."""
        for frame in (b"a", b"b", b"c"):
            self.output.write(frame)
        self.assertEqual(self.socket.sends, 0)
        self.assertEqual(self.output.written_at, 0)
        self.clock.advance(0)
        self.assertEqual((self.socket.taken, self.socket.sends), (b"abc", 1))
        self.assertEqual((self.output.size, self.output.written_at), (0, 100))
        self.assertFalse(self.transport.is_writing)

    def test_appended(self) -> None:
        """What is appended while something waits is sent with it, in order, and counts as sent."""
        self.output.write(b"a")
        self.output.begun.append(b"b")
        self.output.write(b"c")
        self.assertEqual(self.output.size, 3)
        self.clock.advance(0)
        self.assertEqual((self.socket.taken, self.socket.sends), (b"abc", 1))
        self.assertEqual((self.output.begun, self.output.size), ([], 0))

    def test_nothing_begun(self) -> None:
        """While a client is behind there is nothing to append to: all that comes is counted."""
        self.make(room=1, limit=10)
        self.output.write(b"abc")
        self.clock.advance(0)
        self.output.write(b"def")
        self.assertEqual((self.output.begun, self.output.size), ([], 5))
        self.drain(1)
        self.output.write(b"ghijkl")
        self.assertEqual((self.output.begun, self.protocol.overflows), ([], 1))

    def test_long_list(self) -> None:
        """What is long does not wait for the end of the turn: a list is bounded at all times."""
        frame = b"x" * 1000
        for _ in range(200):
            self.output.write(frame)
            self.assertLessEqual(self.output.size, PIECE + len(frame))
        self.clock.advance(0)
        self.assertEqual(len(self.socket.taken), 200_000)
        self.assertEqual(self.socket.sends, 4)

    def test_slices(self) -> None:
        """RS-3: one turn sends on so many connections at most; the order stays."""
        outputs = []
        for n in range(2 * SENDS + 1):
            self.make()
            self.output.write(b"%d" % n)
            outputs.append(self.socket)
        for turn in (1, 2, 3):
            (call,) = self.clock.getDelayedCalls()
            self.clock.calls.clear()
            call.func()
            sent = [socket.sends for socket in outputs]
            self.assertEqual(
                sent, [1] * min(turn * SENDS, len(sent)) + [0] * max(0, len(sent) - turn * SENDS)
            )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_long_turn(self) -> None:
        """RS-3: a turn that has taken long leaves the rest to the next one; the order stays."""
        passed = [100.0]

        def seconds() -> float:
            passed[0] += 0.8 * TURN
            return passed[0]

        self.patch(self.clock, "seconds", seconds)
        sockets = []
        for n in range(4 * STEP):
            self.make()
            self.output.write(b"%d" % n)
            sockets.append(self.socket)
        for turns in (1, 2):
            (call,) = self.clock.getDelayedCalls()
            self.clock.calls.clear()
            call.func()
            sent = [socket.sends for socket in sockets]
            self.assertEqual(sent, [1] * 2 * turns * STEP + [0] * (4 - 2 * turns) * STEP)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """One connection that cannot be written to is cut off, and takes no other with it."""
        broken, other = self.protocol, self.socket
        self.output.write(b"a")
        self.output._socket = None
        self.protocol.transport = None
        self.make()
        self.output.write(b"b")
        self.clock.advance(0)
        self.assertEqual((broken.aborted, other.taken, self.socket.taken), (True, b"", b"b"))
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)


class BlockedTests(OutputTestCase):
    """A client that does not take everything."""

    def test_rest(self) -> None:
        """The rest of a short send goes to the transport, and nothing overtakes it."""
        self.make(room=3)
        self.output.write(b"abcdef")
        self.clock.advance(0)
        self.assertEqual((self.socket.taken, self.protocol.blocks), (b"abc", 1))
        self.assertTrue(self.output.is_blocked)
        self.output.write(b"ghi")
        self.clock.advance(0)
        self.drain(2)
        self.assertEqual(self.socket.taken, b"abcde")
        self.drain(100)
        self.assertEqual(self.socket.taken, b"abcdefghi")
        self.assertEqual((self.protocol.resumptions, self.output.size), (1, 0))
        self.output.write(b"jkl")
        self.clock.advance(0)
        self.assertEqual(self.socket.taken, b"abcdefghijkl")
        self.assertIsNone(self.transport.producer)

    def test_stalled(self) -> None:
        """RS-1: a client that reads nothing costs no more than the limit; then it is told."""
        self.make(room=100, limit=100_000)
        for _ in range(1000):
            self.output.write(b"x" * 1000)
            self.clock.advance(0)
            self.assertLessEqual(self.output.size, 100_000)
            kept = sum(map(len, [*(self.output._kept or ()), *self.output.begun]))
            self.assertLessEqual(kept + self.transport.held, 100_000)
        self.assertGreater(self.protocol.overflows, 0)

    def test_no_limit(self) -> None:
        """0 is no limit."""
        self.make(room=1)
        for _ in range(100):
            self.output.write(b"x" * 100_000)
            self.clock.advance(0)
        self.assertEqual((self.protocol.overflows, self.output.size), (0, 10_000_000 - 1))

    def test_broken(self) -> None:
        """A connection that is broken is the transport's to find out."""
        self.socket.room = 0
        self.output.write(b"abc")
        self.clock.advance(0)
        self.assertEqual(self.transport.held, 3)

    def test_behind_http(self) -> None:
        """An answer that the transport still holds, as to an earlier request, goes out first."""
        self.make(room=0)
        self.output = Output(self.protocol, self.turns)  # type: ignore[arg-type]
        self.protocol.output = self.output
        self.transport.write(b"HTTP")
        self.output.open()
        self.output.write(b"a")
        self.clock.advance(0)
        self.drain(100)
        self.assertEqual(self.socket.taken, b"HTTPa")

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from(["write", "turn", "drain"]), st.integers(0, 250_000)),
            max_size=40,
        ),
        st.sampled_from([1000, 40_000, 200_000]),
    )
    def test_order(self, acts: list[tuple[str, int]], size: int) -> None:
        """However little is taken at a time, all comes, once and in order."""
        self.setUp()
        self.make(room=0)
        sent = b""
        for number, (act, amount) in enumerate(acts):
            if act == "write":
                frame = (b"%d." % number) * (amount % size // 4 + 1)
                sent += frame
                self.output.write(frame)
            elif act == "turn":
                self.clock.advance(0)
            else:
                self.drain(amount)
            self.assertEqual(self.socket.taken, sent[: len(self.socket.taken)])
        for _ in range(3):
            self.clock.advance(0)
            self.drain(1 << 30)
        self.assertEqual(self.socket.taken, sent)
        self.assertEqual((self.output.size, self.output.is_blocked), (0, False))


class EndTests(OutputTestCase):
    """A close loses nothing that was written before it, and keeps nothing."""

    def test_close(self) -> None:
        """What the turn has not sent yet goes out before the transport closes."""
        self.output.write(b"a")
        self.output.close()
        self.assertEqual(self.socket.taken, b"a")

    def test_close_while_blocked(self) -> None:
        """What is kept goes to the transport, which writes it before it closes."""
        self.make(room=1, limit=10)
        self.output.write(b"abc")
        self.clock.advance(0)
        self.output.write(b"def")
        self.output.end()
        # An ERROR and a close frame, which no limit keeps back.
        self.output.write(b"g" * 100)
        self.output.close()
        self.transport.unregisterProducer()
        self.transport.disconnecting = True
        self.drain(1000)
        self.assertEqual(self.socket.taken, b"abcdef" + b"g" * 100)
        self.assertEqual((self.protocol.overflows, self.transport.disconnected), (0, 1))

    def test_discard(self) -> None:
        """What is discarded is gone; what was written before an end is not."""
        self.make(room=1)
        self.output.write(b"abc")
        self.clock.advance(0)
        self.output.write(b"def")
        self.output.discard()
        self.output.end()
        self.output.write(b"ghi")
        self.output.discard()
        self.clock.advance(0)
        self.drain(1000)
        self.assertEqual(self.socket.taken, b"abcghi")

    def test_lost(self) -> None:
        """Of a connection that is gone nothing is kept."""
        self.output.write(b"abc")
        self.output.lose()
        self.clock.advance(0)
        self.assertEqual((self.socket.taken, self.output.size), (b"", 0))


class TransportTests(SynchronousTestCase):
    """Which transports have a socket of their own."""

    def test_plain(self) -> None:
        """A TCP connection has, and is known to be drained."""
        socket = Socket(0)
        transport = Server(socket)
        self.patch(output, "_DIRECT", (Server,))
        self.assertIs(socket_of(transport), socket)
        self.assertTrue(is_drained(transport))
        transport.write(b"a")
        self.assertFalse(is_drained(transport))

    def test_others(self) -> None:
        """One with TLS, a subclass and a stranger have not: nothing may go past them."""
        transport = Server(Socket())
        self.assertIsNone(socket_of(transport))
        self.assertIsNone(socket_of(StringTransport()))
        self.patch(output, "_DIRECT", (Server,))
        transport.TLS = True
        self.assertIsNone(socket_of(transport))

    def test_one_write(self) -> None:
        """There all frames of a turn are one write; who says that it is blocked stops it."""
        clock = Clock()
        transport = StringTransport()
        protocol = Protocol(transport)
        out = Output(protocol, Turns(clock, Counters()))  # type: ignore[arg-type]
        self.assertFalse(out.open())
        out.write(b"a")
        out.write(b"b")
        self.assertEqual(transport.value(), b"")
        clock.advance(0)
        self.assertEqual(transport.value(), b"ab")
        out.block()
        out.write(b"c")
        clock.advance(0)
        self.assertEqual(transport.value(), b"ab")
        out.unblock()
        self.assertEqual(transport.value(), b"abc")
