"""Tests of stompauth.relay.connection."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import LogPublisher, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import Refused
from stompauth.relay.connection import BrokerConnection, BrokerLogin
from stompauth.stomp.decoder import DecoderLimits
from stompauth.stomp.frame import Frame
from tests.relay.scripted import PASSCODE, Upstream

LOGIN = BrokerLogin("chat", PASSCODE, "tests", 10, DecoderLimits(2000, 20, 500), 1000)
SEND = Frame("SEND", {"destination": "/queue/x"}, b"hello")


class Owner:
    """Whose connection it is."""

    def __init__(self) -> None:
        self.messages: list[Frame] = []
        self.losses: list[str] = []
        self.strays: list[str] = []

    def message(self, frame: Frame) -> None:
        self.messages.append(frame)

    def lost(self, refused: Refused) -> None:
        self.losses.append(refused.code)

    def stray(self, subscription_id: str) -> None:
        self.strays.append(subscription_id)


class ConnectionCase(SynchronousTestCase):
    """A connection whose other end the test is."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = Owner()
        self.connection = BrokerConnection(LOGIN, self.clock, self.owner)
        self.upstream = Upstream(0, self.connection)
        self.events: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)
        assert isinstance(globalLogPublisher, LogPublisher)

    def observe(self, event: dict[str, object]) -> None:
        self.events.append(repr(event))

    def open(self) -> None:
        self.upstream.turn(connects=True)
        self.successResultOf(self.connection.ready)

    def turn(self) -> None:
        self.upstream.turn(connects=True)


class OpeningTests(ConnectionCase):
    """From CONNECT to CONNECTED."""

    def test_connect(self) -> None:
        """RL-1: CONNECT is made of the configuration, and of nothing else."""
        self.turn()
        (connect,) = self.upstream.frames
        self.assertEqual(
            connect.headers,
            {
                "accept-version": "1.2",
                "login": "chat",
                "passcode": PASSCODE,
                "host": "tests",
                "heart-beat": "10000,10000",
            },
        )

    def test_not_before(self) -> None:
        """Nothing goes out before CONNECTED."""
        self.assertFalse(self.connection.is_open)
        self.assertEqual(
            self.assertRaises(Refused, self.connection.send, SEND).code, "broker-unavailable"
        )

    def test_silence(self) -> None:
        """RL-5: a broker that says nothing is given up."""
        self.clock.advance(10)
        refused = self.failureResultOf(self.connection.ready, Refused).value
        self.assertEqual(refused.code, "broker-unavailable")
        self.assertTrue(self.upstream.is_lost)
        self.assertEqual(self.owner.losses, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """RL-5: bad credentials are logged, and the passcode is not."""
        self.upstream.turn(connects=False)
        self.upstream.error("Bad CONNECT", f"Access refused for {PASSCODE}".encode())
        self.failureResultOf(self.connection.ready, Refused)
        self.assertTrue(any("Bad CONNECT" in event for event in self.events))
        self.assertFalse(any(PASSCODE in event for event in self.events))
        self.assertNotIn(PASSCODE, repr(LOGIN))

    def test_loss(self) -> None:
        """A connection that breaks before CONNECTED was never there."""
        self.upstream.lose()
        self.failureResultOf(self.connection.ready, Refused)
        self.assertEqual(self.owner.losses, [])


class ReceiptTests(ConnectionCase):
    """What is confirmed, and what is not."""

    def setUp(self) -> None:
        super().setUp()
        self.open()
        self.upstream.receipts = False

    def test_confirmed(self) -> None:
        """A request waits for its own receipt."""
        first, second = self.connection.request(SEND), self.connection.request(SEND)
        self.turn()
        self.upstream.confirm(self.upstream.frames[-1])
        self.assertNoResult(first)
        self.successResultOf(second)

    def test_own_frames(self) -> None:
        """RL-3: frames are our codec's, with a length of our own."""
        self.connection.send(
            Frame("SEND", {"destination": "/queue/a:b", "content-length": "1"}, b"\0\n\0")
        )
        self.turn()
        self.assertTrue(
            self.upstream.octets.endswith(
                b"SEND\ndestination:/queue/a\\cb\ncontent-length:3\n\n\0\n\0\0"
            )
        )

    def test_timeout(self) -> None:
        """RL-5: what is not confirmed in time is refused; the connection stays."""
        receipt = self.connection.request(SEND)
        self.clock.advance(10)
        self.assertEqual(self.failureResultOf(receipt, Refused).value.code, "broker-unavailable")
        self.turn()
        self.upstream.confirm_all()
        self.assertTrue(self.connection.is_open)

    def test_lost(self) -> None:
        """RL-5: who waits when the connection breaks is told at once, when to come back too."""
        receipt = self.connection.request(SEND)
        self.upstream.lose()
        refused = self.failureResultOf(receipt, Refused).value
        self.assertEqual(refused.code, "broker-unavailable")
        self.assertIn(int(refused.headers["retry-after"]), range(2, 11))
        self.assertEqual(self.owner.losses, ["broker-unavailable"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_given_up(self) -> None:
        """Who does not wait any more is not told."""
        receipt = self.connection.request(SEND)
        receipt.addErrback(lambda _: None)
        receipt.cancel()
        self.turn()
        self.upstream.confirm_all()
        self.upstream.lose()


class FaultTests(ConnectionCase):
    """What the broker does wrong."""

    def setUp(self) -> None:
        super().setUp()
        self.open()

    def test_error(self) -> None:
        """RL-5: an ERROR is logged and ends the connection; no word of it goes further."""
        receipt = self.connection.request(SEND)
        self.upstream.error("access_refused", b"ACCESS_REFUSED - queue 'x'")
        self.assertEqual(self.owner.losses, ["internal"])
        self.assertEqual(str(self.failureResultOf(receipt, Refused).value), "internal")
        self.assertTrue(any("access_refused" in event for event in self.events))
        self.assertTrue(self.upstream.is_lost)

    def test_stray(self) -> None:
        """One ERROR of RabbitMQ's is no harm: a message was too late for its subscription."""
        body = b"There is no current subscription with tag 'T_%s'." % (b"a" * 16)
        self.upstream.error("Subscription not found", body)
        self.assertEqual(self.owner.strays, ["a" * 16])
        self.assertEqual(self.owner.losses, [])

    def test_too_large(self) -> None:
        """RL-6: frames of the broker have limits, too."""
        self.upstream.deliver("s", "/queue/x", b"x" * 2000)
        self.assertEqual(self.owner.losses, ["broker-unavailable"])
        self.assertEqual(self.owner.messages, [])

    def test_no_stomp(self) -> None:
        """RL-6: so has what is no STOMP."""
        self.upstream.give(b"HTTP/1.1 400 Bad Request\r\n")
        self.assertEqual(self.owner.losses, ["broker-unavailable"])

    def test_dead(self) -> None:
        """A broker of which nothing is heard for long is gone."""
        self.upstream.give(b"\n")
        for _ in range(30):
            self.clock.advance(1)
        self.assertEqual(self.owner.losses, ["broker-unavailable"])

    def test_heartbeats(self) -> None:
        """One that beats stays, and hears of us."""
        for _ in range(60):
            self.clock.advance(1)
            self.upstream.give(b"\n")
        self.turn()
        self.assertEqual(self.owner.losses, [])
        self.assertGreater(self.upstream.octets.count(b"\0\n"), 0)


class FlowTests(ConnectionCase):
    """RL-6: neither side drowns the other."""

    def setUp(self) -> None:
        super().setUp()
        self.open()

    def test_blocked(self) -> None:
        """What waits for a broker that does not read has a bound; then it is refused."""
        transport = self.upstream.transport
        self.assertTrue(transport.streaming)
        self.connection.pauseProducing()
        for _ in range(3):
            self.connection.send(Frame("SEND", {"destination": "/queue/x"}, b"x" * 400))
        self.assertRaises(Refused, self.connection.send, SEND)
        self.connection.resumeProducing()
        self.connection.send(SEND)

    def test_paused(self) -> None:
        """Of what has come already nothing is read either, until reading goes on."""
        self.connection.pause()
        self.assertEqual(self.upstream.transport.producerState, "paused")
        self.upstream.deliver("s", "/queue/x", b"1")
        self.assertEqual(self.owner.messages, [])
        for _ in range(60):
            self.clock.advance(1)
        self.connection.resume()
        self.assertEqual([frame.body for frame in self.owner.messages], [b"1"])
        self.assertEqual(self.owner.losses, [])


class ClosingTests(ConnectionCase):
    """The end that we want."""

    def test_orderly(self) -> None:
        """DISCONNECT is confirmed before the connection ends; nobody is told of a loss."""
        self.open()
        closed = self.connection.close()
        self.assertNoResult(closed)
        self.turn()
        self.successResultOf(closed)
        self.assertEqual(self.upstream.frames[-1].command, "DISCONNECT")
        self.assertEqual(self.owner.losses, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deaf(self) -> None:
        """A broker that does not answer is left."""
        self.open()
        closed = self.connection.close()
        self.clock.advance(10)
        self.successResultOf(closed)

    def test_early(self) -> None:
        """So is one that has not said CONNECTED."""
        self.connection.ready.addErrback(lambda _: None)
        self.successResultOf(self.connection.close())
        self.successResultOf(self.connection.close())
