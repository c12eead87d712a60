"""Tests of stompauth.application."""

from __future__ import annotations

from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import stompauth
from stompauth import (
    Interceptor,
    JWTVerifier,
    MemoryTicketStore,
    Refused,
    Rules,
    SimpleBroker,
    StaticKey,
    StompAuth,
    allow,
)
from stompauth.application import Revoked
from stompauth.authorization.decision import Decision
from stompauth.interfaces import IAuthorizer, IBroker, ITicketStore
from stompauth.settings import Limits
from tests.applications import AUDIENCE, ISSUER, NOW, SECRET, Application, StompClient, token
from tests.wire import WebSocket, post_token


class ConstructionTests(SynchronousTestCase):
    """An application is put together of parts that are what they should be."""

    def parts(self) -> dict[str, Any]:
        clock = Clock()
        return {
            "verifier": JWTVerifier(
                StaticKey.hmac(SECRET),
                algorithms=["HS256"],
                issuer=ISSUER,
                audience=AUDIENCE,
                clock=clock,
            ),
            "tickets": MemoryTicketStore(clock=clock),
            "broker": SimpleBroker(),
            "rules": Rules([allow("subscribe", "send", "/topic/x")]),
            "origins": ["https://chat.example.com"],
            "clock": clock,
        }

    def test_good_parts(self) -> None:
        """The parts of the contract's example make an application."""
        StompAuth(**self.parts())

    def test_wrong_parts(self) -> None:
        """A part that does not provide its interface is refused by the name of it."""
        for name in ("verifier", "tickets", "broker"):
            with self.assertRaises(TypeError) as caught:
                StompAuth(**{**self.parts(), name: object()})
            self.assertIn("does not provide", str(caught.exception))
        with self.assertRaises(TypeError):
            StompAuth(**{**self.parts(), "rules": [object()]})
        with self.assertRaises(TypeError):
            StompAuth(**{**self.parts(), "interceptors": [object()]})

    def test_exports(self) -> None:
        """Everything that the package names is there."""
        for name in stompauth.__all__:
            self.assertTrue(hasattr(stompauth, name), name)


class WholeWayTests(SynchronousTestCase):
    """Token, ticket, WebSocket, CONNECT, SUBSCRIBE, SEND, MESSAGE: the whole way in memory."""

    def test_two_users_chat(self) -> None:
        """What one writes the other reads; the third is not let in."""
        application = Application(stamp_sender=True)
        alice, bob = application.connect("alice"), application.connect("bob")
        for client in (alice, bob):
            client.send("SUBSCRIBE", id="room", destination="/topic/rooms/lobby", receipt="s")
            self.assertEqual(client.frame().command, "RECEIPT")
        alice.send("SEND", "hällo".encode(), destination="/topic/rooms/lobby")
        for client in (alice, bob):
            message = client.frame()
            self.assertEqual((message.body.decode(), message.headers["sender"]), ("hällo", "alice"))
        mallory = application.connect("mallory", claims={"rooms": []})
        mallory.send("SUBSCRIBE", id="room", destination="/topic/rooms/lobby")
        self.assertEqual(mallory.frame().headers["code"], "access-denied")
        self.assertEqual(mallory.close_code, 4403)

    def test_used_ticket(self) -> None:
        """A ticket that has opened a socket opens no other."""
        application = Application()
        ticket = post_token(application.site, token()).json["ticket"]
        statuses = [WebSocket(application.site, f"/stomp?ticket={ticket}").status for _ in range(3)]
        self.assertEqual(statuses, [101, 401, 401])

    def test_foreign_origin(self) -> None:
        """A foreign Origin gets 403, and the ticket still works from the right one."""
        application = Application()
        target = f"/stomp?ticket={application.ticket()}"
        self.assertEqual(WebSocket(application.site, target, origin="https://evil").status, 403)
        self.assertEqual(WebSocket(application.site, target).status, 101)


@implementer(IAuthorizer)
class Later:
    """An authorizer that answers by a coroutine, as one across a network does."""

    def __init__(self, allowed: bool) -> None:
        self.allowed = allowed

    async def check(self, principal: Any, command: str, destination: Any) -> Decision:
        return Decision(self.allowed, None, "said so")


class ReplacementTests(SynchronousTestCase):
    """Rules, origins, limits and keys can be replaced while sessions go on."""

    def setUp(self) -> None:
        self.keys = StaticKey.hmac(SECRET)
        self.application = Application(
            verifier=JWTVerifier(
                self.keys, algorithms=["HS256"], issuer=ISSUER, audience=AUDIENCE, clock=_now()
            )
        )
        self.stompauth = self.application.stompauth

    def test_rules(self) -> None:
        """New rules hold for the next frame; what is subscribed stays until it is rechecked."""
        client = self.application.connect()
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        self.stompauth.replace_rules(Rules([allow("send", "/queue/other")]))
        self.stompauth.publish("/topic/rooms/lobby", "x")
        self.assertEqual(client.frame().body, b"x")
        client.send("SEND", destination="/queue/other", receipt="r")
        self.assertEqual(client.frame().headers["receipt-id"], "r")
        self.successResultOf(self.stompauth.recheck())
        self.assertEqual(client.frame().headers["code"], "access-denied")
        self.stompauth.publish("/topic/rooms/lobby", "x")
        self.assertEqual(client.frames(), [])

    def test_bad_rules(self) -> None:
        """What is no authorizer is refused, and changes nothing."""
        self.assertRaises(TypeError, self.stompauth.replace_rules, [Rules([]), object()])
        client = self.application.connect()
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby", receipt="r")
        self.assertEqual(client.frame().command, "RECEIPT")

    def test_rules_while_waiting(self) -> None:
        """AZ-10: who waits for an answer of the old rules is judged by the new ones as well."""
        answers: list[Deferred[Decision]] = []

        @implementer(IAuthorizer)
        class Slow:
            def check(self, *_: object) -> Deferred[Decision]:
                answers.append(Deferred())
                return answers[-1]

        self.stompauth.replace_rules(Slow())
        client = self.application.connect()
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        self.stompauth.replace_rules(Rules([]))
        self.successResultOf(self.stompauth.recheck())
        answers[0].callback(Decision(True, None, "so"))
        self.assertEqual(client.frame().headers["code"], "access-denied")
        self.assertEqual(client.close_code, 4403)

    def test_recheck_while_waiting(self) -> None:
        """AZ-10: an answer from before a recheck is no answer: the authorizer is asked again."""
        answers: list[Deferred[Decision]] = []

        @implementer(IAuthorizer)
        class Slow:
            def check(self, *_: object) -> Deferred[Decision]:
                answers.append(Deferred())
                return answers[-1]

        self.stompauth.replace_rules(Slow())
        client = self.application.connect()
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby", receipt="r")
        self.assertEqual(self.successResultOf(self.stompauth.recheck("alice")), 1)
        answers[0].callback(Decision(True, None, "so"))
        self.assertEqual(client.frames(), [])
        answers[1].callback(Decision(False, None, "no longer"))
        self.assertEqual(client.frame().headers["code"], "access-denied")

    def test_origins(self) -> None:
        """New origins hold for tickets and handshakes; open sessions stay."""
        client = self.application.connect()
        ticket = self.application.ticket()
        self.stompauth.origins.replace(["https://other.example.com"])
        target = f"/stomp?ticket={ticket}"
        self.assertEqual(WebSocket(self.application.site, target).status, 403)
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby", receipt="r")
        self.assertEqual(client.frame().command, "RECEIPT")

    def test_limits(self) -> None:
        """Counts hold at once, also for sessions that are open; what is there stays."""
        client = self.application.connect()
        for number in ("1", "2"):
            client.send("SUBSCRIBE", id=number, destination="/topic/rooms/lobby")
        self.stompauth.replace_limits(Limits(subscriptions=1, sessions_per_user=1))
        response = post_token(self.application.site, token())
        self.assertEqual((response.status, response.json), (429, {"error": "sessions"}))
        self.stompauth.publish("/topic/rooms/lobby", "x")
        self.assertEqual(len(client.frames()), 2)
        client.send("SUBSCRIBE", id="3", destination="/topic/rooms/lobby")
        self.assertEqual(client.frame().headers["code"], "limit")

    def test_limits_of_sessions(self) -> None:
        """Sizes hold for sessions that begin afterwards."""
        before = self.application.connect()
        self.stompauth.replace_limits(Limits(frame=2000))
        after = self.application.connect()
        for client in (before, after):
            body = b"x" * 3000
            client.send("SEND", body, destination="/topic/rooms/lobby", receipt="r")
        self.assertEqual(before.frame().command, "RECEIPT")
        self.assertEqual(after.frame().headers["code"], "too-large")

    def test_limits_of_sockets(self) -> None:
        """And so do those of a WebSocket itself."""
        self.stompauth.replace_limits(Limits(frame=2000))
        client = self.application.connect()
        client.send("SEND", b"x" * 20000, destination="/topic/rooms/lobby", receipt="r")
        self.assertEqual((client.frames(), client.close_code), ([], 1009))

    def test_keys(self) -> None:
        """JW-2: a new secret is good beside the old one, then without it; sessions stay."""
        other = b"fedcba9876543210fedcba9876543210"
        site = self.application.site
        client = self.application.connect()
        self.assertEqual(post_token(site, token(secret=other)).status, 401)
        self.keys.replace(StaticKey.hmac(SECRET, other))
        for secret in (SECRET, other):
            self.assertEqual(post_token(site, token(secret=secret)).status, 200)
        self.keys.replace(StaticKey.hmac(other))
        self.assertEqual(post_token(site, token()).status, 401)
        self.assertEqual(post_token(site, token(secret=other)).status, 200)
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby", receipt="r")
        self.assertEqual(client.frame().command, "RECEIPT")


def _now() -> Clock:
    clock = Clock()
    clock.advance(NOW)
    return clock


class Part(Service):
    """A ticket store that is a service, or what stands for one."""

    def __init__(self) -> None:
        self.stopping: Deferred[None] | None = None

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self.stopping = Deferred()
        return self.stopping


@implementer(ITicketStore)
class TicketService(Part):
    """A ticket store that nobody asks."""


@implementer(IBroker)
class BrokerService(Part):
    """A broker that nobody asks."""


class ServiceTests(SynchronousTestCase):
    """The application runs those of its parts that are services."""

    def setUp(self) -> None:
        self.tickets, self.broker = TicketService(), BrokerService()
        self.application = Application(tickets=self.tickets, broker=self.broker)
        self.service = self.application.stompauth.service()

    def test_start(self) -> None:
        """A ticket store that is a service starts with the application, and so does a broker."""
        self.service.startService()
        self.assertTrue(self.tickets.running)
        self.assertTrue(self.broker.running)

    def test_stop(self) -> None:
        """The stop is over when each of them has stopped; one that fails is in nobody's way."""
        self.service.startService()
        stopped = self.service.stopService()
        assert self.tickets.stopping is not None
        assert self.broker.stopping is not None
        self.tickets.stopping.errback(OSError("no"))
        self.assertNoResult(stopped)
        self.broker.stopping.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_again(self) -> None:
        """What was stopped can be started again, and lets clients in."""
        self.service.startService()
        self.service.stopService()
        self.assertFalse(self.application.stompauth.readiness()["serving"])
        self.service.startService()
        self.assertTrue(self.application.stompauth.readiness()["serving"])
        self.assertTrue(self.tickets.running)


class AuthorizerTests(SynchronousTestCase):
    """Several authorizers have to agree."""

    def receipt(self, *rules: Any) -> str:
        client = Application(rules=list(rules)).connect()
        client.send("SEND", destination="/topic/x", receipt="r")
        return client.frame().command

    def test_all_must_allow(self) -> None:
        """One that denies is enough, in whatever order, answering at once or later."""
        yes, no = Rules([allow("send", "/topic/x")]), Rules([allow("send", "/topic/y")])
        for authorizers, command in (
            ((yes,), "RECEIPT"),
            ((yes, no), "ERROR"),
            ((no, yes), "ERROR"),
            ((yes, Later(True)), "RECEIPT"),
            ((Later(True), yes), "RECEIPT"),
            ((Later(True), no), "ERROR"),
            ((yes, Later(False)), "ERROR"),
            ((Later(True), Later(True), yes), "RECEIPT"),
            ((Later(True), Later(False), yes), "ERROR"),
        ):
            self.assertEqual(self.receipt(*authorizers), command, authorizers)


class MessagingTests(SynchronousTestCase):
    """The application sends in its own name."""

    def test_publish(self) -> None:
        """Text and octets, with headers; past the rules, but not past the grammar."""
        application = Application()
        client = application.connect()
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        publish = application.stompauth.publish
        self.successResultOf(publish("/topic/rooms/lobby", "hällo", {"a": "b"}))
        message = client.frame()
        self.assertEqual((message.body.decode(), message.headers["a"]), ("hällo", "b"))
        self.successResultOf(publish("/topic/nobody/may", b"x"))
        for destination, code in (
            ("/topic//x", "bad-destination"),
            ("/nowhere/x", "no-such-destination"),
        ):
            error = self.failureResultOf(publish(destination, b"x"), Refused).value
            self.assertEqual(error.code, code)


class OutboundInterceptorTests(SynchronousTestCase):
    """An interceptor may look at every MESSAGE on its way out, and change it."""

    def test_redaction(self) -> None:
        """What pre_receive returns is what the client gets, encoded in its version."""

        class Redact(Interceptor):
            def pre_receive(self, frame: Any, session: Any) -> Any:
                if session.user == "bob":
                    return None
                frame.body = frame.body.replace(b"secret", b"xxxxxx")
                return frame

        application = Application(interceptors=[cast(Any, Redact())])
        alice, bob = application.connect("alice", "1.0"), application.connect("bob")
        for client in (alice, bob):
            client.send("SUBSCRIBE", id="1", destination="/queue/work/x", ack="client")
        for _ in range(2):
            application.stompauth.publish("/queue/work/x", "a secret", {"a": "b:c"})
        message = alice.frame()
        self.assertEqual((message.body, message.headers["a"]), (b"a xxxxxx", "b:c"))
        self.assertEqual(bob.frames(), [])


class RevocationTests(SynchronousTestCase):
    """JW-13: access that is withdrawn ends at once, and stays withdrawn."""

    def setUp(self) -> None:
        self.application = Application()
        self.tabs = [self.application.connect(claims={"jti": f"t{n}"}) for n in range(2)]
        self.bob = self.application.connect("bob")
        self.bob.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")

    def revoke(self, **what: str) -> Revoked:
        return self.successResultOf(self.application.stompauth.revoke(**what))

    def assert_revoked(self, client: StompClient) -> None:
        self.assertEqual(client.frame().headers["code"], "revoked")
        self.assertEqual(client.close_code, 4403)

    def test_user(self) -> None:
        """All of a user's sessions end, his tickets are void, his old tokens open nothing."""
        ticket = self.application.ticket()
        unconnected = self.application.open()
        self.assertEqual(self.revoke(user="alice", reason="left the company"), Revoked(3, 1))
        for client in (*self.tabs, unconnected):
            self.assert_revoked(client)
        site = self.application.site
        self.assertEqual(WebSocket(site, f"/stomp?ticket={ticket}").status, 401)
        response = post_token(site, token())
        self.assertEqual((response.status, response.json), (403, {"error": "revoked"}))
        self.assertEqual((self.bob.frames(), self.bob.close_code), ([], None))

    def test_new_token(self) -> None:
        """A token that is issued afterwards is good again."""
        self.revoke(user="alice")
        self.application.clock.advance(1)
        later = token(iat=int(NOW) + 1)
        response = post_token(self.application.site, later)
        self.assertEqual(response.status, 200)
        ticket = response.json["ticket"]
        client = StompClient(WebSocket(self.application.site, f"/stomp?ticket={ticket}"))
        client.connect(token())
        self.assert_revoked(client)

    def test_session(self) -> None:
        """One session ends, the user's others do not, and he may come back."""
        connected = self.tabs[0].connected
        assert connected is not None
        self.assertEqual(self.revoke(session=connected.headers["session"]), Revoked(1, 0))
        self.assert_revoked(self.tabs[0])
        self.assertEqual(self.tabs[1].frames(), [])
        self.application.connect()

    def test_token(self) -> None:
        """What one token opened ends; a ticket that it got opens nothing."""
        ticket = self.application.ticket(jti="t0")
        self.assertEqual(self.revoke(token_id="t0"), Revoked(1, 0))
        self.assert_revoked(self.tabs[0])
        self.assertEqual(self.tabs[1].frames(), [])
        site = self.application.site
        self.assertEqual(WebSocket(site, f"/stomp?ticket={ticket}").status, 401)
        self.assertEqual(post_token(site, token(jti="t0")).status, 403)
        self.assertEqual(post_token(site, token(jti="t9")).status, 200)

    def test_renewal_with_a_revoked_token(self) -> None:
        """A revoked token renews nothing."""
        self.revoke(token_id="t7")
        self.bob.send(
            "SEND", destination="/session/token", Authorization=f"Bearer {token('bob', jti='t7')}"
        )
        self.assert_revoked(self.bob)

    def test_as_long_as_a_token_lives(self) -> None:
        """JW-13: where tokens live for long, a revocation is remembered for as long."""
        day = 86400
        for max_lifetime in (7 * day, 0):
            clock = Clock()
            clock.advance(NOW)
            verifier = JWTVerifier(
                StaticKey.hmac(SECRET),
                algorithms=["HS256"],
                issuer=ISSUER,
                audience=AUDIENCE,
                clock=clock,
                max_lifetime=max_lifetime,
            )
            self.application = Application(verifier=verifier)
            self.revoke(user="alice")
            for passing in (clock, self.application.clock):
                passing.advance(6 * day)
            self.revoke(user="bob")
            response = post_token(self.application.site, token(exp=int(NOW) + 7 * day))
            self.assertEqual((response.status, response.json), (403, {"error": "revoked"}))

    def test_exactly_one(self) -> None:
        """It has to be said what to revoke."""
        for what in ({}, {"user": "a", "session": "b"}):
            with self.assertRaises(ValueError):
                self.application.stompauth.revoke(**what)

    def test_recheck(self) -> None:
        """AZ-10: asking the rules again drops what they no longer allow, with a notice."""
        self.tabs[0].send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        forbidden = {"alice"}

        @implementer(IAuthorizer)
        class Forbid:
            def check(self, principal: Any, command: str, destination: Any) -> Decision:
                return Decision(principal.name not in forbidden, None, "so")

        self.application.stompauth.replace_rules(Forbid())
        rechecked = self.application.stompauth.recheck("alice")
        self.assertEqual(self.successResultOf(rechecked), 2)
        notice = self.tabs[0].frame()
        self.assertEqual(
            (notice.headers["code"], notice.headers["subscription"]), ("access-denied", "1")
        )
        self.application.stompauth.publish("/topic/rooms/lobby", "x")
        self.assertEqual((self.tabs[0].frames(), len(self.bob.frames())), ([], 1))

    def test_recheck_fails(self) -> None:
        """A session about which the rules cannot be asked ends; the others are still looked at."""
        for tab in self.tabs:
            tab.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        first = self.application.stompauth.sessions.of_user("alice")[0]
        asked: list[str] = []

        @implementer(IAuthorizer)
        class Broken:
            def check(self, principal: Any, command: str, destination: Any) -> Decision:
                asked.append(command)
                if len(asked) == 1:
                    raise OSError
                return Decision(True, None, "so")

        self.application.stompauth.replace_rules([Broken()])
        rechecked = self.application.stompauth.recheck("alice")
        self.assertEqual(self.successResultOf(rechecked), 2)
        self.assertEqual(len(asked), 2)
        self.assertFalse(first.is_connected)
        self.assertEqual([tab.close_code for tab in self.tabs], [1011, None])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
