"""The WebSocket handshake, and CONNECT on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from stompauth.errors import ConnectFailed, Refused
from stompauth.interceptors.interceptor import Interceptor
from tests.client.servers import ClientCase, ScriptedServer, _Chooser, canned


class HandshakeTests(ClientCase):
    """What the WebSocket handshake says, and CONNECT."""

    def failure(self, connecting: Any) -> ConnectFailed:
        """Why there is no session; nothing of the attempt is left."""
        error = self.assertRaises(ConnectFailed, self.server.result_of, connecting)
        self.server.flush()
        self.assertEqual(self.server._pumps, [])
        self.assertEqual(self.ends, [])
        return error

    def test_denied(self) -> None:
        """A server that wants an Origin turns down who sends none, and will later."""
        self.settings = replace(self.settings, origin=None)
        error = self.failure(self.connecting())
        self.assertEqual((error.code, error.status), ("handshake-denied", 403))
        self.assertTrue(error.is_final)

    def test_ipv6(self) -> None:
        """An IPv6 address has its brackets where it has to."""
        heard: list[bytes] = []
        receive = _Chooser.dataReceived

        def record(chooser: _Chooser, data: bytes) -> None:
            heard.append(data)
            receive(chooser, data)

        self.patch(_Chooser, "dataReceived", record)
        self.server.site = script = ScriptedServer(self.clock)
        self.server.url = "https://[2001:db8::1]:8443"
        self.connect()
        for head in heard[:2]:
            self.assertIn(b"\r\nHost: [2001:db8::1]:8443\r\n", head)
        self.assertEqual(script.frames[0].headers["host"], "2001:db8::1")

    def test_busy(self) -> None:
        """A handshake may say when to come back, too."""
        script = ScriptedServer(self.clock)
        head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
        script._websockets = canned(head)
        self.server.site = script
        error = self.failure(self.connecting())
        self.assertEqual((error.status, error.retry_after), (503, 7))

    def test_no_websocket(self) -> None:
        """What does not follow RFC 6455 is no WebSocket."""
        good = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        for head in (
            b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
            good + b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
            b"HTTP/1.1 101 X\r\n\r\n",
            b"X: " + bytes(20_000),
        ):
            script = ScriptedServer(self.clock)
            script._websockets = canned(head)
            self.server.site = script
            self.assertEqual(self.failure(self.connecting()).code, "no-websocket")

    def test_connect_refused(self) -> None:
        """A refused CONNECT has the code and the close status of the ERROR."""

        class Closed(Interceptor):
            def pre_send(self, frame: Any, session: Any) -> Any:
                raise Refused("members-only", explanation="Members only.")

        self.serve(interceptors=[Closed()])
        error = self.failure(self.connecting())
        self.assertEqual((error.code, error.close_code), ("members-only", 4403))
        self.assertEqual(error.explanation, "Members only.")
        self.assertTrue(error.is_final)

    def test_version(self) -> None:
        """A server that chooses a version which was not offered is no server for us."""
        script = ScriptedServer(self.clock)
        script.connected = {"version": "1.1"}
        self.server.site = script
        self.assertEqual(self.failure(self.connecting()).code, "unknown-version")

    def test_unreachable(self) -> None:
        """Where nothing can be reached, the cause is kept."""

        @implementer(IStreamClientEndpoint)
        class Nowhere:
            def connect(self, factory: Any) -> Deferred[Any]:
                return fail(DNSLookupError())

        self.server.endpointForURI = lambda uri: Nowhere()
        error = self.failure(self.connecting())
        self.assertEqual(error.code, "unreachable")
        self.assertIsInstance(error.__cause__, DNSLookupError)
        self.assertFalse(error.is_final)
