"""Tests of stompauth.session.events, and of when its events come."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.rules import Rules, allow
from stompauth.session.events import EVENTS
from stompauth.settings import Limits
from tests.applications import NOW, Application, token


class EventsTests(SynchronousTestCase):
    """An application hears of its sessions, after the fact and exactly once."""

    def setUp(self) -> None:
        self.start()

    def start(self, **settings: Any) -> None:
        self.application = Application(**settings)
        self.events: list[tuple[str, ...]] = []
        for event in EVENTS:
            self.application.stompauth.on(event)(self.recorder(event))

    def recorder(self, event: str) -> Any:
        def record(session: Any, *facts: Any) -> None:
            words = [getattr(fact, "id", getattr(fact, "path", fact)) for fact in facts]
            self.events.append((event, session.user, *map(str, words)))

        return record

    def taken(self) -> list[tuple[str, ...]]:
        events, self.events = self.events, []
        return events

    def test_life(self) -> None:
        """Connected, subscribed, unsubscribed, disconnected: each once, in that order."""
        client = self.application.connect()
        self.assertEqual(self.taken(), [("connected", "alice")])
        for n in ("1", "2"):
            client.send("SUBSCRIBE", id=n, destination="/topic/rooms/lobby")
        client.send("UNSUBSCRIBE", id="1")
        self.assertEqual(
            self.taken(),
            [
                ("subscribed", "alice", "1"),
                ("subscribed", "alice", "2"),
                ("unsubscribed", "alice", "1"),
            ],
        )
        client.send("DISCONNECT")
        client.websocket.socket.lose()
        self.assertEqual(
            self.taken(),
            [("unsubscribed", "alice", "2"), ("disconnected", "alice", "disconnected")],
        )

    def test_broken_off(self) -> None:
        """A session that breaks off has disconnected, too."""
        self.application.connect().websocket.socket.lose()
        self.assertEqual(self.taken()[1:], [("disconnected", "alice", "connection lost")])

    def test_never_connected(self) -> None:
        """A session that never connected never disconnects."""
        client = self.application.open()
        client.connect(token("bob"))
        client.websocket.socket.lose()
        self.assertEqual(self.taken(), [])

    def test_denied(self) -> None:
        """A refused SUBSCRIBE has not subscribed; who was denied what is told."""
        client = self.application.connect()
        self.taken()
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/attic")
        denied, disconnected = self.taken()
        self.assertEqual(denied[:4], ("denied", "alice", "subscribe", "/topic/rooms/attic"))
        self.assertEqual(disconnected, ("disconnected", "alice", "access-denied"))

    def test_expiring(self) -> None:
        """A minute before its token's end; again after a renewal."""
        client = self.application.connect()
        self.taken()
        self.application.clock.advance(3540)
        self.assertEqual(self.taken(), [("expiring", "alice", "60")])
        fresh = token(iat=int(NOW) + 3540, exp=int(NOW) + 7200)
        client.send("SEND", destination="/session/token", Authorization=f"Bearer {fresh}")
        self.application.clock.advance(3600)
        self.assertEqual(self.taken(), [("expiring", "alice", "60")])

    def test_answered_once(self) -> None:
        """A subscription that a handler answers is never delivered to, and nobody hears of it."""
        self.start(rules=Rules([allow("subscribe", "/app/**")]))
        self.application.stompauth.on_subscribe("/app/now")(lambda: "now")
        client = self.application.connect()
        self.taken()
        client.send("SUBSCRIBE", id="1", destination="/app/now")
        client.send("SUBSCRIBE", id="2", destination="/app/now")
        client.send("UNSUBSCRIBE", id="1")
        client.websocket.socket.lose()
        self.assertEqual(self.taken(), [("disconnected", "alice", "connection lost")])

    def test_overflow_at_once(self) -> None:
        """A SUBSCRIBE that ends its session by what it gets at once has never subscribed."""
        rules = Rules([allow("subscribe", "send", "/topic/news/**", retain=True)])
        self.start(rules=rules, limits=Limits(unacked=1))
        client = self.application.connect()
        for topic in ("a", "b"):
            client.send("SEND", b"x", destination=f"/topic/news/{topic}", retain="true")
        self.taken()
        client.send("SUBSCRIBE", id="1", destination="/topic/news/*", ack="client")
        self.assertEqual(self.taken(), [("disconnected", "alice", "slow-consumer")])

    def test_failing_observer(self) -> None:
        """An observer that fails is logged; the others are called, and the session goes on."""

        def fail(session: Any) -> None:
            raise OSError

        application = Application()
        seen: list[Any] = []
        application.stompauth.on("connected")(fail)
        application.stompauth.on("connected")(seen.append)
        self.assertIsNotNone(application.connect().connected)
        self.assertEqual(len(seen), 1)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_found_at_once(self) -> None:
        """Whoever hears of a session finds it, and can send to it."""
        application = Application()
        found: list[bool] = []

        @application.stompauth.on("subscribed")
        def welcome(session: Any, subscription: Any) -> None:
            send = application.stompauth.send_to_session
            found.append(
                self.successResultOf(send(session.session_id, "/queue/private", "welcome"))
            )

        client = application.connect()
        client.send("SUBSCRIBE", id="1", destination="/user/queue/private")
        self.assertEqual((found, client.frame().body), ([True], b"welcome"))

    def test_unknown(self) -> None:
        """There are these events, and no others."""
        with self.assertRaises(ValueError):
            self.application.stompauth.on("conected")(self.recorder("x"))
