"""Tests of stompauth.handshake.admission: the application's part in a handshake."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from stompauth import Denied
from stompauth.interfaces import IHandshakeInterceptor
from tests.applications import Application
from tests.wire import WebSocket


@implementer(IHandshakeInterceptor)
class Recorder:
    """Writes down what it sees, and does what it is told to."""

    def __init__(self, name: str, log: list[Any], act: Any = None) -> None:
        self.name = name
        self.log = log
        self.act = act

    def before_handshake(self, request: Any, attributes: dict[str, Any]) -> Any:
        self.log.append(f"before {self.name}")
        attributes[self.name] = request.address
        return self.act() if self.act else None

    def after_handshake(self, request: Any, outcome: Any) -> None:
        self.log.append((self.name, getattr(outcome, "user", getattr(outcome, "status", None))))


class HandshakeInterceptorTests(SynchronousTestCase):
    """Handshake interceptors come before the take, and hear of the outcome."""

    def setUp(self) -> None:
        self.log: list[Any] = []

    def start(self, *acts: Any) -> None:
        interceptors = [Recorder(name, self.log, act) for name, act in zip("ab", acts, strict=True)]
        self.application = Application(handshake_interceptors=interceptors)

    def open(self, **arguments: Any) -> WebSocket:
        self.target = f"/stomp?ticket={self.application.ticket()}"
        return WebSocket(self.application.site, self.target, **arguments)

    def test_admitted(self) -> None:
        """All of them, in order; the outcome in reverse; their attributes are the session's."""
        self.start(None, None)
        client = self.application.connect()
        assert client.connected is not None
        self.assertEqual(self.log, ["before a", "before b", ("b", "alice"), ("a", "alice")])
        session = self.application.stompauth.sessions.get(client.connected.headers["session"])
        assert session is not None
        self.assertEqual(session.attributes, {"a": "192.0.2.1", "b": "192.0.2.1"})

    def test_denied(self) -> None:
        """One of them may deny; those before it hear of it, and the ticket is good still."""

        def deny() -> None:
            raise Denied(403, "maintenance")

        self.start(None, deny)
        self.assertEqual(self.open().status, 403)
        self.assertEqual(self.log, ["before a", "before b", ("a", 403)])
        self.application.stompauth._handshake_interceptors[1].act = None  # type: ignore[attr-defined]
        self.assertEqual(WebSocket(self.application.site, self.target).status, 101)
        self.assertEqual(self.application.stompauth._connections.total, 1)

    def test_later(self) -> None:
        """One of them may take its time."""
        answer: Deferred[None] = Deferred()
        self.start(None, lambda: answer)
        socket = self.open()
        self.assertIsNone(socket.status)
        answer.callback(None)
        socket.read()
        self.assertEqual(socket.status, 101)

    def test_failure_closes(self) -> None:
        """I8: one that fails lets nobody in, and its text reaches nobody."""

        def fail() -> None:
            raise OSError("hunter2")

        self.start(None, fail)
        socket = self.open()
        self.assertEqual(socket.status, 503)
        self.assertNotIn("hunter2", repr(socket.response))
        self.assertEqual(self.log[-1], ("a", 503))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_bad_ticket(self) -> None:
        """They hear of what came after them."""
        self.start(None, None)
        WebSocket(self.application.site, "/stomp?ticket=" + "x" * 43)
        self.assertEqual(self.log[2:], [("b", 401), ("a", 401)])

    def test_foreign_origin(self) -> None:
        """What fails before them does not reach them."""
        self.start(None, None)
        self.open(origin="https://evil.example")
        self.assertEqual(self.log, [])

    def test_not_an_interceptor(self) -> None:
        """What does not provide the interface is refused at once."""
        with self.assertRaises(TypeError):
            Application(handshake_interceptors=[object()])
