"""From a token to a ticket."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.web.resource import Resource
from twisted.web.util import Redirect

from stompauth.errors import ConnectFailed
from stompauth.handshake.site import PathRouter, StrictSite
from stompauth.settings import TicketSettings
from tests.client.servers import ClientCase, canned


class TicketTests(ClientCase):
    """What the ticket endpoint says."""

    def failure(self, connecting: Any) -> ConnectFailed:
        """Why there is no session."""
        return self.assertRaises(ConnectFailed, self.server.result_of, connecting)

    def answer(self, octets: bytes) -> ConnectFailed:
        """Why there is none when the endpoint answers so."""
        self.server.site = canned(octets)
        return self.failure(self.connecting())

    def test_unauthorized(self) -> None:
        """A bad token may be followed by a good one."""
        error = self.failure(self.connecting(lambda: "abc"))
        self.assertEqual((error.code, error.status), ("unauthorized", 401))
        self.assertFalse(error.is_final)

    def test_origin(self) -> None:
        """A foreign origin will not do later either."""
        self.settings = replace(self.settings, origin="https://elsewhere.example")
        error = self.failure(self.connecting())
        self.assertEqual((error.code, error.status), ("origin", 403))
        self.assertTrue(error.is_final)

    def test_revoked(self) -> None:
        """Nor will a revoked user."""
        token = self.token()
        self.application.revoke(user="alice")
        error = self.failure(self.connecting(lambda: token))
        self.assertEqual(error.code, "revoked")
        self.assertTrue(error.is_final)

    def test_retry_after(self) -> None:
        """Who asks too often is told when to come back."""
        self.serve(ticket=TicketSettings(rate=0.05))
        self.connecting(lambda: self.token())
        error = self.failure(self.connecting())
        self.assertEqual((error.code, error.status), ("rate", 429))
        self.assertEqual(error.retry_after, 20)
        self.assertFalse(error.is_final)

    def test_long_retry_after(self) -> None:
        """That is believed within reason, and only where it is a number of seconds."""
        for value, expected in ((b"86400", 3600), (b"-1", None), (b"Fri, 31 Dec 2027", None)):
            head = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: %b\r\n\r\n" % value
            error = self.answer(head)
            self.assertEqual((error.code, error.retry_after), ("http", expected))

    def test_no_endpoint(self) -> None:
        """What is no ticket endpoint gives no ticket."""
        for body in (b"", b"<html>", b"[]", b'{"ticket": 7}', b'{"ticket": "a&b"}', b"[" * 5000):
            error = self.answer(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            self.assertEqual((error.code, error.status), ("bad-answer", 200))

    def test_large(self) -> None:
        """An answer that does not end is not read to the end."""
        error = self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + bytes(20_000))
        self.assertEqual(error.code, "bad-answer")

    def test_strange_code(self) -> None:
        """What is no slug is not repeated."""
        body = b'{"error": "hunter2 <b>"}'
        error = self.answer(b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        self.assertEqual(str(error), "unknown, HTTP status 400")

    def test_redirect(self) -> None:
        """A redirect is not followed: the token would go elsewhere."""
        root = Resource()
        root.putChild(b"authenticate", PathRouter({b"/authenticate/token": Redirect(b"/other")}))
        other: list[Any] = []

        class Other(Resource):
            def render(self, request: Any) -> bytes:
                other.append(request)
                return b"{}"

        root.putChild(b"other", Other())
        self.server.site = StrictSite(root, self.clock)
        self.assertEqual(self.failure(self.connecting()).status, 302)
        self.assertEqual(other, [])

    def test_cut(self) -> None:
        """An answer that ends too early is none."""
        connecting = self.connecting()
        self.server.site = canned(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
        connecting = self.connecting()
        self.server.close()
        self.assertEqual(self.failure(connecting).code, "unreachable")
