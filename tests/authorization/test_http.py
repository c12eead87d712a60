"""Tests of stompauth.authorization.http."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.iweb import IAgent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stompauth.authorization import http
from stompauth.authorization.decision import Decision
from stompauth.authorization.destination import Destination
from stompauth.authorization.http import MAX_ANSWER, HTTPAuthorizer
from stompauth.errors import Refused
from stompauth.identity.principal import Principal
from stompauth.interfaces import IAuthorizer
from tests.applications import Application


class Response:
    """An answer of the service, whole."""

    previousResponse = None  # noqa: N815

    def __init__(self, body: bytes, code: int = 200) -> None:
        self.code = code
        self._body = body

    def deliverBody(self, protocol: Any) -> None:
        protocol.makeConnection(self)
        protocol.dataReceived(self._body)
        protocol.connectionLost(Failure(ResponseDone()))

    def stopProducing(self) -> None:
        """Hang up."""


@implementer(IAgent)
class Service:
    """An authorization service: keeps the questions, and gives the answers that it is told to."""

    def __init__(self) -> None:
        self.questions: list[dict[str, Any]] = []
        self.pending: list[Deferred[Response]] = []
        self.answer: Response | Exception | None = Response(b'{"allow": true}')

    def request(self, method: bytes, uri: bytes, headers: Any = None, body: Any = None) -> Any:
        assert (method, uri) == (b"POST", b"http://127.0.0.1:9/may")
        body._inputFile.seek(0)
        self.questions.append(json.loads(body._inputFile.read()))
        answered: Deferred[Response] = Deferred()
        self.pending.append(answered)
        if isinstance(self.answer, Exception):
            answered.errback(self.answer)
        elif self.answer is not None:
            answered.callback(self.answer)
        return answered


ALICE = Principal("alice", "https://id/", 2000.0, 1000.0, frozenset({"b", "a"}))
NEWER = Principal("alice", "https://id/", 3000.0, 1500.0)
TOPIC = Destination.parse("/topic/x")


class HTTPAuthorizerTests(SynchronousTestCase):
    """A service decides; without an answer nobody may."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.service = Service()
        self.authorizer = self.make()

    def make(self, cache: float = 0.0) -> HTTPAuthorizer:
        return HTTPAuthorizer(
            self.service, "http://127.0.0.1:9/may", clock=self.clock, timeout=1, cache=cache
        )

    def check(self, principal: Principal = ALICE, command: str = "send") -> Decision:
        decision = self.authorizer.check(principal, command, TOPIC)
        return decision if isinstance(decision, Decision) else self.successResultOf(decision)

    def assert_no_answer(self) -> None:
        decision = self.authorizer.check(ALICE, "send", TOPIC)
        assert isinstance(decision, Deferred)
        refused = self.failureResultOf(decision, Refused).value
        self.assertEqual((refused.code, refused.notify), ("internal", False))

    def test_interface(self) -> None:
        """It is an authorizer."""
        self.assertTrue(verifyObject(IAuthorizer, self.authorizer))

    def test_question(self) -> None:
        """I6: the service is told who wants what, and never shown the token."""
        self.assertTrue(self.check().allowed)
        self.assertEqual(
            self.service.questions,
            [
                {
                    "user": "alice",
                    "issuer": "https://id/",
                    "authorities": ["a", "b"],
                    "command": "send",
                    "destination": "/topic/x",
                }
            ],
        )

    def test_denial(self) -> None:
        """A denial has its reason for the log."""
        self.service.answer = Response(b'{"allow": false, "reason": "it is closed"}')
        decision = self.check()
        self.assertEqual((decision.allowed, decision.reason), (False, "it is closed"))

    def test_retain(self) -> None:
        """The service may let a message be retained."""
        self.assertFalse(self.check().retain)
        self.service.answer = Response(b'{"allow": true, "retain": true}')
        self.assertTrue(self.check().retain)

    def test_no_answer(self) -> None:
        """I8: what is no answer refuses the frame, as our failure and not as a denial."""
        for answer in (
            error.ConnectionRefusedError(),
            Response(b'{"allow": true}', 500),
            Response(b'{"allow": true}', 302),
            Response(b""),
            Response(b"allow"),
            Response(b"[]"),
            Response(b"{}"),
            Response(b'{"allow": 1}'),
            Response(b'{"allow": "true"}'),
            Response(b'{"allow": true, "retain": 1}'),
            Response(b'{"allow": true, "x": "' + b"x" * MAX_ANSWER + b'"}'),
        ):
            self.service.answer = answer
            self.assert_no_answer()

    def test_timeout(self) -> None:
        """An answer that takes too long is none, and is no longer waited for."""
        self.service.answer = None
        decision = self.authorizer.check(ALICE, "send", TOPIC)
        assert isinstance(decision, Deferred)
        self.clock.advance(0.9)
        self.assertNoResult(decision)
        self.clock.advance(0.1)
        self.failureResultOf(decision, Refused)
        self.assertTrue(self.service.pending[0].called)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cache(self) -> None:
        """Answers are kept by principal, command and destination, for their time."""
        self.authorizer = self.make(cache=10)
        for _ in range(3):
            self.check()
        self.check(command="subscribe")
        self.check(NEWER)
        self.assertEqual(len(self.service.questions), 3)
        self.clock.advance(10)
        self.check()
        self.assertEqual(len(self.service.questions), 4)

    def test_failures_are_not_kept(self) -> None:
        """What was no answer is asked for again."""
        self.authorizer = self.make(cache=10)
        self.service.answer = error.ConnectionRefusedError()
        self.assert_no_answer()
        self.service.answer = Response(b'{"allow": true}')
        self.assertTrue(self.check().allowed)

    def test_bound(self) -> None:
        """The cache has a bound; what was asked for longest ago goes."""
        self.patch(http, "MAX_CACHED", 2)
        self.authorizer = self.make(cache=10)
        for command in ("send", "subscribe", "other"):
            self.check(command=command)
        self.assertEqual(len(self.authorizer._decisions), 2)

    def test_in_a_session(self) -> None:
        """In an application: the frame waits for the service, and a leaving client cancels it."""
        self.service.answer = None
        application = Application(rules=[self.authorizer])
        client = application.connect()
        client.send("SEND", destination="/topic/x", receipt="r")
        self.assertEqual(client.frames(), [])
        self.service.pending[0].callback(Response(b'{"allow": true}'))
        self.assertEqual(client.frame().command, "RECEIPT")
        client.send("SEND", destination="/topic/x")
        client.websocket.socket.lose()
        self.assertTrue(self.service.pending[1].called)
        self.assertEqual(self.flushLoggedErrors(), [])
