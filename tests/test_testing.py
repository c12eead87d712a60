"""The testing kit."""

from __future__ import annotations

import re
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import txaio
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stompauth import testing
from stompauth.application import StompAuth
from stompauth.authorization.rules import Rules, allow, deny
from stompauth.broker.simple import SimpleBroker
from stompauth.errors import BadToken, ConnectFailed, Disconnected, FrameRefused, TokenExpired
from stompauth.interceptors.interceptor import Interceptor
from stompauth.interfaces import IAuthorizer, ITokenVerifier
from stompauth.settings import Limits
from stompauth.testing import FakeVerifier, MemoryClient, MemoryServer
from stompauth.tickets.memory import MemoryTicketStore

if TYPE_CHECKING:
    from stompauth.client.subscription import Message
    from stompauth.stomp.frame import Frame

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "testing.md"


class FakeVerifierTests(SynchronousTestCase):
    """FakeVerifier."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.verifier = FakeVerifier(self.clock)

    def test_interface(self) -> None:
        """It is a verifier."""
        verifyObject(ITokenVerifier, self.verifier)

    def test_token(self) -> None:
        """A token speaks for whom it was made up for."""
        self.clock.advance(5)
        token = self.verifier.token(
            "alice", authorities=["chat"], claims={"rooms": ["a"]}, lifetime=60, token_id="t"
        )
        principal = self.successResultOf(self.verifier.verify(token))
        self.assertEqual(principal.name, "alice")
        self.assertEqual(principal.issuer, self.verifier.issuer)
        self.assertEqual(principal.authorities, {"chat"})
        self.assertEqual(principal.claims, {"sub": "alice", "rooms": ["a"]})
        self.assertEqual((principal.issued_at, principal.expires_at), (5, 65))
        self.assertEqual(principal.token_id, "t")

    def test_others(self) -> None:
        """No other token is taken, not even that of another verifier."""
        for token in ("alice", FakeVerifier(self.clock).token("alice")):
            self.failureResultOf(self.verifier.verify(token), BadToken)

    def test_expired(self) -> None:
        """A token is good for its time."""
        token = self.verifier.token("alice", lifetime=60)
        self.clock.advance(59)
        self.successResultOf(self.verifier.verify(token))
        self.clock.advance(1)
        self.failureResultOf(self.verifier.verify(token), TokenExpired)


@implementer(IAuthorizer)
class ServerCase(SynchronousTestCase):
    """Has a server, and decides who may do what.

    :ivar rules: may be replaced.
    """

    rules = Rules(
        [
            deny("subscribe", "/topic/quiet", on_deny="notify"),
            allow("subscribe", "send", "/topic/*"),
            allow("subscribe", "send", "/queue/*"),
        ]
    )

    def check(self, *arguments: Any) -> Any:
        """Ask the rules as they are now."""
        return self.rules.check(*arguments)

    def setUp(self) -> None:
        self.clock = Clock()
        self.verifier = FakeVerifier(self.clock)
        self.serve()

    def serve(self, **settings: Any) -> None:
        """Set the server up, or anew with other settings."""
        self.application = StompAuth(
            verifier=self.verifier,
            tickets=MemoryTicketStore(self.clock),
            broker=SimpleBroker(clock=self.clock),
            clock=self.clock,
            rules=self,
            origins=[],
            **settings,
        )
        self.server = MemoryServer(self.application, self.clock)
        self.addCleanup(self.server.close)

    def connect(self, user: str = "alice", **arguments: Any) -> MemoryClient:
        """Connect as a user."""
        return self.server.connect(self.verifier.token(user, **arguments))


class MemoryServerTests(ServerCase):
    """MemoryServer."""

    def test_interface(self) -> None:
        """It can stand where a client looks for endpoints."""
        verifyObject(IAgentEndpointFactory, self.server)

    def test_connect(self) -> None:
        """There is a session in the application, of the token's user."""
        client = self.connect()
        (session,) = self.application.sessions
        self.assertEqual(session.user, "alice")
        self.assertEqual(session.session_id, client.client.session_id)

    def test_ticket(self) -> None:
        """What the ticket resource refuses is told."""
        error = self.assertRaises(ConnectFailed, self.server.connect, "somebody")
        self.assertEqual((error.code, error.status), ("unauthorized", 401))

    def test_limits(self) -> None:
        """The limits of the application hold."""
        self.serve(limits=Limits(sessions_per_user=1))
        self.connect()
        error = self.assertRaises(ConnectFailed, self.connect)
        self.assertEqual((error.code, error.status), ("sessions", 429))
        self.connect("bob")

    def test_undecided(self) -> None:
        """Where the application has to wait for something, there is no client yet."""

        class Waiting(Interceptor):
            async def pre_send(self, frame: Frame, session: Any) -> Frame:
                await Deferred()
                return frame

        self.serve(interceptors=[Waiting()])
        self.assertRaises(AssertionError, self.connect)

    def test_advance(self) -> None:
        """Timers run in order, each at its time, with what comes of them before the next."""
        times: list[tuple[str, float]] = []
        client = self.connect()
        client.subscribe("/topic/a")

        def publish(name: str) -> None:
            times.append((name, self.clock.seconds()))
            times.extend((message.text, self.clock.seconds()) for message in client.messages)
            client.messages.clear()
            self.application.publish("/topic/a", f"after {name}")

        self.clock.callLater(7.1, publish, "b")
        self.clock.callLater(3.3, publish, "a")
        self.server.advance(10)
        self.assertEqual(times, [("a", 3.3), ("b", 7.1), ("after a", 7.1)])
        self.assertEqual(self.clock.seconds(), 10)

    def test_pings(self) -> None:
        """Clients answer pings for as long as time passes."""
        client = self.connect(lifetime=86400)
        self.server.advance(3600)
        self.assertIsNone(client.closed)

    def test_endless(self) -> None:
        """Clients that answer each other for ever are a failure, not a test that hangs."""
        self.serve(limits=Limits(frames_per_second=0, bytes_per_second=0))
        self.patch(testing, "_MAX_ROUNDS", 100)
        client = self.connect().client

        def echo(message: Message) -> None:
            client.send("/topic/a").addErrback(lambda _: None)

        self.server.result_of(client.subscribe("/topic/a", echo))
        self.application.publish("/topic/a", "")
        self.assertRaises(AssertionError, self.server.flush)
        client.drop()

    def test_close(self) -> None:
        """Nothing is left: no session, no timer, and Autobahn has its own clock again."""
        loops = [txaio.config.loop]
        self.server.close()
        loops.append(txaio.config.loop)
        self.assertEqual([loop is self.clock for loop in loops], [True, False])
        self.serve()
        client = self.connect()
        self.server.close()
        assert client.closed is not None
        self.assertEqual(client.closed.code, "connection-lost")
        self.assertEqual(len(self.application.sessions), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class MemoryClientTests(ServerCase):
    """MemoryClient."""

    def test_messages(self) -> None:
        """Messages of all subscriptions are there in order, whoever sent them."""
        alice, bob = self.connect(), self.connect("bob")
        alice.subscribe("/topic/a")
        alice.subscribe("/topic/b")
        bob.send("/topic/b", b"1")
        self.application.publish("/topic/a", "2")
        self.assertEqual(
            [(message.destination, message.body) for message in alice.messages],
            [("/topic/b", b"1"), ("/topic/a", b"2")],
        )
        alice.messages.clear()
        self.assertEqual(alice.messages, [])

    def test_headers(self) -> None:
        """Headers and modes go with them."""
        client = self.connect()
        subscription = client.subscribe(
            "/queue/a", ack="client-individual", headers={"prefetch-count": "1"}
        )
        for body in ("1", "2"):
            client.send("/queue/a", body, {"kind": "x"})
        (message,) = client.messages
        self.assertEqual(message.headers["kind"], "x")
        self.server.result_of(message.ack())
        self.assertEqual([message.text for message in client.messages], ["1", "2"])
        self.server.result_of(subscription.unsubscribe())
        self.assertFalse(subscription.is_active)

    def test_refused(self) -> None:
        """A refusal raises, and a session that it ends is closed."""
        client = self.connect()
        error = self.assertRaises(FrameRefused, client.subscribe, "/topic/quiet")
        self.assertEqual(error.code, "access-denied")
        self.assertIsNone(client.closed)
        error = self.assertRaises(Disconnected, client.send, "/topic/a/b")
        self.assertEqual(error.code, "access-denied")
        assert client.closed is not None
        self.assertEqual(client.closed.close_code, 4403)

    def test_notices(self) -> None:
        """What is taken away later is told."""
        client = self.connect()
        client.subscribe("/topic/a")
        self.rules = Rules([deny("subscribe", "/topic/*", on_deny="notify")])
        self.successResultOf(self.application.recheck())
        (notice,) = client.notices
        self.assertEqual((notice.code, notice.destination), ("access-denied", "/topic/a"))
        self.assertIsNone(client.closed)

    def test_disconnect(self) -> None:
        """A client can leave."""
        client = self.connect()
        client.disconnect()
        assert client.closed is not None
        self.assertEqual(client.closed.code, "disconnected")
        self.assertEqual(len(self.application.sessions), 0)

    def test_waiting(self) -> None:
        """What has to wait is asked of the client underneath."""
        held: list[Deferred[None]] = []

        class Hold(Interceptor):
            async def pre_send(self, frame: Frame, session: Any) -> Frame:
                if frame.command == "SEND":
                    held.append(Deferred())
                    await held[-1]
                return frame

        self.serve(interceptors=[Hold()])
        client = self.connect()
        sending = client.client.send("/topic/a")
        self.server.flush()
        self.assertNoResult(sending)
        held[0].callback(None)
        self.server.flush()
        self.successResultOf(sending)


class PageTests(SynchronousTestCase):
    """docs/howto/testing.md."""

    def test_page(self) -> None:
        """The tests of the page pass, every one of them."""
        names: dict[str, Any] = {"__name__": "page"}
        for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S):
            exec(compile(block, PAGE.name, "exec"), names)
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(names["ChatTests"])
        result = unittest.TestResult()
        suite.run(result)
        self.assertEqual(result.testsRun, 5)
        self.assertEqual([text for _, text in result.errors + result.failures], [])
