"""From a token to a session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import txaio
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from zope.interface import implementer

from stompauth.client.connector import connect
from stompauth.client.settings import ClientSettings
from stompauth.errors import ConnectFailed
from stompauth.settings import TicketSettings, WebSocketSettings
from tests.client.servers import ClientCase, ScriptedServer, canned


class URLTests(ClientCase):
    """Where a token may be sent."""

    def refusal(self, url: str, **arguments: Any) -> str:
        """Why a URL is not taken."""
        return str(self.assertRaises(ValueError, connect, self.clock, url, self.token, **arguments))

    def test_plain(self) -> None:
        """Without TLS a token stays on this machine, whichever of the two URLs it is."""
        self.assertIn("https", self.refusal("http://chat.example.com"))
        settings = ClientSettings(websocket_path="ws://chat.example.com/stomp")
        self.assertIn("https", self.refusal("https://chat.example.com", settings=settings))

    def test_here(self) -> None:
        """To this machine it may be plain."""
        for host in ("localhost", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080"):
            connecting = connect(self.clock, f"http://{host}", Deferred)
            connecting.cancel()
            self.failureResultOf(connecting, CancelledError)

    def test_endpoints(self) -> None:
        """Who says how the server is reached may say so plainly."""
        self.server.url = "http://chat.internal"
        self.assertTrue(self.connect().is_connected)

    def test_no_url(self) -> None:
        """What is no server's URL is a mistake of the caller's, told at once."""
        for url in (
            "chat.example.com",
            "ftp://chat.example.com",
            "https://",
            "https://me:hunter2@chat.example.com",
            "https://chät.example.com",
        ):
            self.assertNotIn("hunter2", self.refusal(url))
        for path in ("/stomp?x=1", "/stomp#x"):
            settings = ClientSettings(websocket_path=path)
            self.refusal("https://chat.example.com", settings=settings)

    def test_paths(self) -> None:
        """The two resources may be anywhere."""
        self.serve(
            ticket=TicketSettings(path="/chat/ticket"), websocket=WebSocketSettings(path="/chat/ws")
        )
        self.settings = replace(
            self.settings,
            ticket_path="/chat/ticket",
            websocket_path="wss://elsewhere.example/chat/ws",
        )
        self.assertTrue(self.connect().is_connected)


class TokenTests(ClientCase):
    """Where tokens come from."""

    def test_kinds(self) -> None:
        """A token may come at once, or later, from a coroutine too."""

        async def later() -> str:
            return self.token()

        for token in (self.token, lambda: succeed(self.token()), later):
            self.assertEqual(self.connect(token).user, "alice")

    def test_fresh(self) -> None:
        """For each connection there is a token and a ticket of its own."""
        users = ["alice", "bob"]
        clients = [self.connect(lambda: self.token(users.pop(0))) for _ in range(2)]
        self.assertEqual([client.user for client in clients], ["alice", "bob"])

    def test_failure(self) -> None:
        """What the callable raises comes out as it is."""
        for token in (lambda: 1 / 0, lambda: fail(ZeroDivisionError())):
            self.failureResultOf(self.connecting(token), ZeroDivisionError)

    def test_no_token(self) -> None:
        """What cannot be a token is not sent, and not shown."""
        for token in ("", "hunter2 hunter2", "hunter2\r\nX: y", "x" * 9000):
            connecting = self.connecting(lambda token=token: token)
            self.assertNotIn("hunter2", str(self.failureResultOf(connecting, ValueError).value))


class TimeTests(ClientCase):
    """An attempt that does not end, at each of its steps."""

    def steps(self) -> Any:
        """Attempts that wait: for a token, an answer, a connection, a handshake, CONNECTED."""
        yield self.connecting(Deferred)
        self.server.site = canned(b"")
        yield self.connecting()

        @implementer(IStreamClientEndpoint)
        class Never:
            def connect(self, factory: Any) -> Deferred[Any]:
                return Deferred()

        endpoint_for = self.server.endpointForURI
        self.server.endpointForURI = lambda uri: Never()
        yield self.connecting()
        self.server.endpointForURI = endpoint_for
        script = ScriptedServer(self.clock)
        script._websockets = canned(b"")
        self.server.site = script
        yield self.connecting()
        script = ScriptedServer(self.clock)
        script.connected = None
        self.server.site = script
        yield self.connecting()

    def assert_nothing_left(self) -> None:
        """No connection, no timer."""
        self.server.flush()
        self.assertEqual(self.server._pumps, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.ends, [])

    def test_timeout(self) -> None:
        """All of it together may take so long, and nothing is left of it then."""
        for connecting in self.steps():
            self.server.advance(29)
            self.assertNoResult(connecting)
            self.server.advance(1)
            self.assert_fails(connecting, ConnectFailed, "connect-timeout")
            self.assert_nothing_left()

    def test_cancel(self) -> None:
        """Who does not want to wait any more leaves nothing behind."""
        for connecting in self.steps():
            connecting.cancel()
            self.failureResultOf(connecting, CancelledError)
            self.assert_nothing_left()


class SecretsTests(ClientCase):
    """What must not be told."""

    def test_log(self) -> None:
        """Neither token nor ticket is in the log, whatever its level."""
        events = EventLoggingObserver.createWithCleanup(self, globalLogPublisher)
        level = txaio.get_global_log_level()
        self.addCleanup(txaio.set_global_log_level, level)
        txaio.set_global_log_level("trace")
        tickets: list[str] = []
        store = self.application._tickets
        issue = store.issue
        store.issue = lambda *arguments: issue(*arguments).addCallback(
            lambda ticket: tickets.append(ticket) or ticket
        )
        token = self.token()
        client = self.connect(lambda: token)
        self.server.result_of(client.disconnect())
        self.settings = replace(self.settings, origin=None)
        self.failureResultOf(self.connecting(lambda: token), ConnectFailed)
        self.assertEqual(len(tickets), 2)
        texts = [formatEvent(event) + repr(event) for event in events]
        self.assertTrue(texts)
        for secret in (token, *tickets):
            self.assertEqual([text for text in texts if secret in text], [])
