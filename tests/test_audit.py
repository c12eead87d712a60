"""Tests of stompauth.audit, and of where its events come from."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from stompauth.audit import EVENTS, MAX_FACT, audit, printable
from stompauth.logs import json_line
from stompauth.settings import Limits, TicketSettings
from tests.applications import Application, token
from tests.wire import WebSocket, post_token


class PrintableTests(SynchronousTestCase):
    """LG-2: what a peer sends cannot write lines, colours or directions into a log."""

    def test_escapes(self) -> None:
        """Controls, line separators and marks of direction are escaped, plain text is not."""
        self.assertEqual(printable("alice \N{LATIN SMALL LETTER U WITH DIAERESIS}"), "alice \xfc")
        self.assertEqual(printable("a\r\nb\x1b[31m"), "a\\r\\nb\\x1b[31m")
        self.assertEqual(printable("a\u2028\u202eb\ud800"), "a\\u2028\\u202eb\\ud800")

    @given(st.text(st.characters()))
    def test_always(self, text: str) -> None:
        """The result shows as itself and has a bound, whatever the text."""
        escaped = printable(text)
        self.assertTrue(escaped.isprintable())
        self.assertLessEqual(len(escaped), (MAX_FACT + 1) * 10)

    def test_cut(self) -> None:
        """A long text is cut."""
        self.assertEqual(len(printable("x" * 10**6)), MAX_FACT + 1)


class AuditTests(SynchronousTestCase):
    """LG-3: each decision that matters leaves one event, with its facts in fields."""

    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)
        self.application = Application()

    def observe(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "stompauth.audit":
            self.events.append(event)

    def names(self) -> list[str]:
        names = [event["audit"] for event in self.events]
        self.events.clear()
        return names

    def test_texts(self) -> None:
        """Every event can be formatted with the facts that its text names."""
        facts = dict.fromkeys(
            ("user", "address", "reason", "session", "command", "to", "what", "name"), "x\n"
        )
        for name in EVENTS:
            audit(name, status=401, **facts)
            self.assertNotIn("\n", formatEvent(self.events[-1]))
            self.assertNotIn("{", formatEvent(self.events[-1]))

    def test_life(self) -> None:
        """Ticket, connection and end of a session, with who and from where."""
        client = self.application.connect()
        client.send("DISCONNECT")
        for event in self.events:
            self.assertEqual((event["user"], event["address"]), ("alice", "192.0.2.1"))
        self.assertEqual(self.events[-1]["reason"], "disconnected")
        self.assertEqual(self.names(), ["ticket-issued", "connected", "ended"])
        client.websocket.socket.lose()
        self.assertEqual(self.names(), [])

    def test_refused_tickets(self) -> None:
        """A refused ticket request says which check failed; the client is not told."""
        response = post_token(self.application.site, token(aud="other"))
        (event,) = self.events
        self.assertEqual(event["audit"], "ticket-refused")
        self.assertTrue(event["reason"].startswith("unauthorized: "))
        self.assertEqual(event["log_level"], LogLevel.warn)
        self.assertNotIn("aud", response.body.decode())

    def test_handshakes(self) -> None:
        """A denied handshake, and above all a replayed ticket, is a warning."""
        ticket = self.application.ticket()
        target = f"/stomp?ticket={ticket}"
        WebSocket(self.application.site, target)
        self.names()
        WebSocket(self.application.site, target, host="192.0.2.66")
        replayed, denied = self.events
        self.assertEqual((replayed["audit"], replayed["user"]), ("ticket-replayed", "alice"))
        self.assertEqual(
            (replayed["address"], replayed["log_level"]), ("192.0.2.66", LogLevel.warn)
        )
        self.assertEqual((denied["audit"], denied["status"]), ("handshake-denied", 401))
        self.names()
        for arguments in ({"origin": "https://evil"}, {"version": "8"}):
            WebSocket(self.application.site, "/stomp", **arguments)
        self.assertEqual(self.names(), ["handshake-denied"] * 2)

    def test_connect_refused(self) -> None:
        """A CONNECT that is refused says why."""
        client = self.application.open()
        client.connect(token("bob"))
        self.assertEqual(self.events[-1]["reason"], "subject-mismatch")
        self.assertEqual(self.names(), ["ticket-issued", "connect-refused"])

    def test_denials(self) -> None:
        """A denial says what was denied, and by which rule or that there was none."""
        client = self.application.connect()
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/attic")
        denied, ended = self.events[-2:]
        self.assertEqual((denied["audit"], denied["command"]), ("denied", "subscribe"))
        self.assertEqual((denied["to"], denied["user"]), ("/topic/rooms/attic", "alice"))
        self.assertEqual(ended["reason"], "access-denied")

    def test_ends(self) -> None:
        """Expiry, limits and revocation end a session by their names."""
        self.application = Application(limits=Limits(subscriptions=1))
        clients = [self.application.connect() for _ in range(3)]
        self.names()
        clients[0].send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        clients[0].send("SUBSCRIBE", id="2", destination="/topic/rooms/lobby")
        assert clients[1].connected is not None
        self.application.stompauth.revoke(session=clients[1].connected.headers["session"])
        self.application.clock.advance(4000)
        reasons = [event["reason"] for event in self.events if event["audit"] == "ended"]
        self.assertEqual(reasons, ["limit", "revoked", "token-expired"])

    def test_no_secrets(self) -> None:
        """LG-1: no event holds a ticket or a token."""
        ticket, jwt = self.application.ticket(), token()
        WebSocket(self.application.site, f"/stomp?ticket={ticket}")
        WebSocket(self.application.site, f"/stomp?ticket={ticket}")
        self.application.open().connect(jwt)
        for text in (repr(self.events), "".join(map(json_line, self.events))):
            self.assertNotIn(ticket, text)
            self.assertNotIn(jwt, text)


class ReplayTests(SynchronousTestCase):
    """``tickets.on_replay``: a ticket that comes again has leaked."""

    def replay(self, on_replay: str) -> int | None:
        application = Application(ticket=TicketSettings(on_replay=on_replay))
        ticket = application.ticket()
        first = WebSocket(application.site, f"/stomp?ticket={ticket}")
        other = application.connect()
        again = WebSocket(application.site, f"/stomp?ticket={ticket}")
        self.assertEqual(again.status, 401)
        self.assertEqual((other.frames(), other.close_code), ([], None))
        first.read()
        return first.close_code

    def test_warn(self) -> None:
        """By default it is a warning; whoever came first goes on."""
        self.assertIsNone(self.replay("warn"))

    def test_close(self) -> None:
        """Where it is configured so, the session that the ticket had opened ends, and no other."""
        self.assertEqual(self.replay("close"), 4401)
