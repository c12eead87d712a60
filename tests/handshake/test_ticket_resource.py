"""Tests of stompauth.handshake.ticket_resource."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import ISSLTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer

from stompauth.errors import BadToken, Unavailable
from stompauth.identity.principal import Principal
from stompauth.interfaces import ITokenVerifier
from stompauth.settings import Limits, TicketSettings
from tests.applications import ISSUER, NOW, Application, token
from tests.wire import Response, Socket, WebSocket, post_token, read_response, request


@implementer(ITokenVerifier)
class HeldVerifier:
    """A verifier that answers when it is told to."""

    leeway = 0.0

    def __init__(self) -> None:
        self.answer: Deferred[Principal] = Deferred()

    def verify(self, token: str) -> Deferred[Principal]:
        return self.answer


class TicketResourceTests(SynchronousTestCase):
    """A good token gets a ticket; everything else gets to know what can be known."""

    def setUp(self) -> None:
        self.application = Application()

    def post(self, *args: object, **kwargs: object) -> Response:
        return post_token(self.application.site, *args, **kwargs)  # type: ignore[arg-type]

    def assert_refused(self, response: Response, status: int, slug: str) -> None:
        self.assertEqual((response.status, response.json), (status, {"error": slug}))
        self.assertEqual(response.headers["content-type"], "application/json")
        self.assertEqual(response.headers["cache-control"], "no-store")

    def test_ticket(self) -> None:
        """A token is traded for a ticket that opens a WebSocket."""
        response = self.post(token())
        self.assertEqual(response.status, 200)
        self.assertEqual(set(response.json), {"ticket", "expires_in"})
        self.assertEqual(response.json["expires_in"], 30)
        socket = WebSocket(self.application.site, "/stomp?ticket=" + response.json["ticket"])
        self.assertEqual(socket.status, 101)

    def test_headers(self) -> None:
        """TK-13: the answer is for nobody's cache, and says nothing beside the point."""
        headers = self.post(token()).headers
        self.assertEqual(headers["cache-control"], "no-store")
        self.assertEqual(headers["x-content-type-options"], "nosniff")
        self.assertEqual(headers["referrer-policy"], "no-referrer")
        self.assertEqual(headers["content-type"], "application/json")
        self.assertNotIn("set-cookie", headers)
        self.assertNotIn("location", headers)

    def test_strict_transport_security(self) -> None:
        """HS-5: over TLS the answer says that it has to be TLS; over plain HTTP it must not."""
        self.assertNotIn("strict-transport-security", self.post(token()).headers)
        socket = Socket(self.application.site)
        alsoProvides(socket.transport, ISSLTransport)
        lines = ["POST /authenticate/token HTTP/1.1", "Host: x", f"Authorization: Bearer {token()}"]
        socket.send("\r\n".join([*lines, "", ""]).encode())
        response, _ = read_response(socket.taken())
        self.assertIn("max-age=", response.headers["strict-transport-security"])

    def test_expires_with_the_token(self) -> None:
        """TK-9: a ticket never outlives its token."""
        response = self.post(token(exp=int(NOW) + 12))
        self.assertEqual(response.json["expires_in"], 12)
        ticket = response.json["ticket"]
        self.application.clock.advance(12)
        self.assertEqual(WebSocket(self.application.site, f"/stomp?ticket={ticket}").status, 401)

    def test_leeway_is_no_life(self) -> None:
        """TK-9: a token that is good by the leeway alone gets no ticket."""
        self.assert_refused(self.post(token(exp=int(NOW) - 5)), 401, "unauthorized")

    def test_scheme_in_any_case(self) -> None:
        """The scheme's name has no case (RFC 9110 section 11.1)."""
        for scheme in ("bearer", "BEARER", "Bearer "):
            extra = (f"Authorization: {scheme} {token()}",)
            self.assertEqual(self.post(None, extra=extra).status, 200)

    def test_no_token(self) -> None:
        """TK-2: without a token the challenge says just the scheme."""
        response = self.post(None)
        self.assert_refused(response, 401, "unauthorized")
        self.assertEqual(response.headers["www-authenticate"], "Bearer")

    def test_bad_tokens(self) -> None:
        """TK-1, TK-2: whatever is wrong with a token, the answer is the same."""
        for bad in (
            "x",
            "a.b.c",
            token(secret=b"y" * 32),
            token(iss="https://other/"),
            token(aud="other"),
            token(exp=int(NOW) - 100),
            token() + "," + token(),
            token() + " x",
            "x" * 8001,
        ):
            response = post_token(Application().site, bad)
            self.assert_refused(response, 401, "unauthorized")
            self.assertEqual(response.headers["www-authenticate"], 'Bearer error="invalid_token"')

    def test_other_places(self) -> None:
        """TK-1: a token in a query, a cookie, a form or another scheme is no token."""
        good = token()
        for extra, path in (
            ((f"Authorization: Basic {good}",), "/authenticate/token"),
            ((f"Cookie: token={good}",), "/authenticate/token"),
            ((), f"/authenticate/token?access_token={good}"),
        ):
            self.assertEqual(self.post(None, extra=extra, path=path).status, 401)
        form = f"access_token={good}".encode()
        head = [
            "POST /authenticate/token HTTP/1.1",
            "Host: chat.example.com",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(form)}",
        ]
        self.assertEqual(request(self.application.site, head, form).status, 401)

    def test_two_authorizations(self) -> None:
        """TK-1: two Authorization headers are refused, even if both are good."""
        extra = (f"Authorization: Bearer {token()}",)
        self.assert_refused(self.post(token(), extra=extra), 401, "unauthorized")

    def test_methods(self) -> None:
        """TK-1: only POST; anything else could be prefetched or cached."""
        for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "FOO"):
            head = [
                f"{method} /authenticate/token HTTP/1.1",
                "Host: chat.example.com",
                f"Authorization: Bearer {token()}",
            ]
            response = request(self.application.site, head)
            self.assert_refused(response, 405, "method")
            self.assertEqual(response.headers["allow"], "POST, OPTIONS")
        head[0] = "HEAD /authenticate/token HTTP/1.1"
        self.assertEqual(request(self.application.site, head).status, 405)

    def test_other_paths(self) -> None:
        """404, in JSON, and without a word of the request."""
        for path in (
            "/authenticate/token/",
            "/authenticate/token/x",
            "/authenticate",
            "/authenticate/%74oken",
            "/Authenticate/token",
            "//authenticate/token",
            "/<script>",
        ):
            self.assert_refused(self.post(token(), path=path), 404, "not-found")

    def test_large_body(self) -> None:
        """TK-15: a large body is refused before it is read, and the connection ends."""
        for length in ("Content-Length: 8193", "Transfer-Encoding: chunked"):
            socket = Socket(self.application.site)
            head = [
                "POST /authenticate/token HTTP/1.1",
                "Host: chat.example.com",
                length,
                f"Authorization: Bearer {token()}",
                "",
                "",
            ]
            socket.send("\r\n".join(head).encode())
            response, _ = read_response(socket.taken())
            self.assert_refused(response, 413, "too-large")
            self.assertTrue(socket.lost)

    def test_order(self) -> None:
        """The checks come in the order of the contract: 404, 405, 413, 403, 401."""
        long = ("Content-Length: 10000",)
        head = ["GET /authenticate/token HTTP/1.1", "Host: x", *long]
        self.assertEqual(request(self.application.site, head).status, 405)
        head[0] = "GET /nowhere HTTP/1.1"
        self.assertEqual(request(self.application.site, head).status, 404)
        head = ["POST /authenticate/token HTTP/1.1", "Host: x", *long, "Origin: https://evil"]
        self.assertEqual(request(self.application.site, head).status, 413)
        self.assertEqual(self.post(None, origin="https://evil").status, 403)

    def test_foreign_origin(self) -> None:
        """TK-14: a page of a foreign origin gets no ticket and no CORS."""
        for origin in ("https://evil.example", "null", "https://chat.example.com.evil.example"):
            response = self.post(token(), origin=origin)
            self.assert_refused(response, 403, "origin")
            self.assertNotIn("access-control-allow-origin", response.headers)
            self.assertEqual(response.headers["vary"], "Origin")
        self.assertEqual(len(self.application.tickets), 0)

    def test_no_origin(self) -> None:
        """A client that sends no Origin is no page; it may ask."""
        self.assertEqual(self.post(token(), origin=None).status, 200)

    def test_cors(self) -> None:
        """TK-14: a page of ours may read every answer, and Retry-After; never with credentials."""
        for response in (self.post(token()), self.post(None)):
            headers = response.headers
            self.assertEqual(headers["access-control-allow-origin"], "https://chat.example.com")
            self.assertEqual(headers["access-control-expose-headers"], "Retry-After")
            self.assertEqual(headers["vary"], "Origin")
            self.assertNotIn("access-control-allow-credentials", headers)

    def test_preflight(self) -> None:
        """TK-14: a preflight allows POST and authorization, to our pages only."""
        head = [
            "OPTIONS /authenticate/token HTTP/1.1",
            "Host: chat.example.com",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization",
        ]
        response = request(self.application.site, [*head, "Origin: https://chat.example.com"])
        self.assertEqual((response.status, response.body), (204, b""))
        self.assertEqual(response.headers["access-control-allow-methods"], "POST")
        self.assertEqual(response.headers["access-control-allow-headers"], "authorization")
        for origin in (["Origin: https://evil.example"], ["Origin: null"], []):
            response = request(self.application.site, head + origin)
            self.assertEqual(response.status, 403)
            self.assertNotIn("access-control-allow-origin", response.headers)
            self.assertNotIn("access-control-allow-methods", response.headers)

    def test_failures_of_an_address(self) -> None:
        """TK-12: many bad requests of one address are cut short before a signature is checked."""
        for _ in range(20):
            self.assertEqual(self.post("x.y.z").status, 401)
        response = self.post(token())
        self.assert_refused(response, 429, "rate")
        self.assertEqual(response.headers["retry-after"], "3")
        self.assertEqual(self.post(token(), host="192.0.2.2").status, 200)
        self.application.clock.advance(3)
        self.assertEqual(self.post(token()).status, 200)

    def test_foreign_pages_lock_nobody_out(self) -> None:
        """TK-12, TK-14: what a foreign page sends from a user's address is not held against it."""
        for _ in range(30):
            self.assertEqual(self.post(None, origin="https://evil.example").status, 403)
        self.assertEqual(self.post(token()).status, 200)

    def test_rate_of_a_subject(self) -> None:
        """TK-12: one subject gets ten tickets at once and five a second, from any address."""
        statuses = [self.post(token(), host=f"192.0.2.{n}").status for n in range(11)]
        self.assertEqual(statuses, [200] * 10 + [429])
        response = self.post(token())
        self.assert_refused(response, 429, "rate")
        self.assertEqual(response.headers["retry-after"], "1")
        self.assertEqual(self.post(token("bob")).status, 200)
        self.application.clock.advance(0.2)
        self.assertEqual(self.post(token()).status, 200)

    def test_sessions_of_a_subject(self) -> None:
        """A subject who has all the sessions that he may learns it here, where a page can read."""
        self.application = Application(limits=Limits(sessions_per_user=1))
        client = self.application.connect()
        self.assert_refused(self.post(token()), 429, "sessions")
        client.websocket.socket.lose()
        self.assertEqual(self.post(token()).status, 200)

    def test_store_down(self) -> None:
        """I8: when tickets cannot be kept, none are given."""
        tickets = self.application.tickets
        self.patch(tickets, "issue", lambda grant, ttl: fail(Unavailable("down", 7)))
        response = self.post(token())
        self.assert_refused(response, 503, "unavailable")
        self.assertEqual(response.headers["retry-after"], "7")

    def test_broken_store(self) -> None:
        """TK-16: an error of ours is a 503 that tells nothing of it."""
        tickets = self.application.tickets
        self.patch(tickets, "issue", lambda grant, ttl: fail(OSError("redis://:hunter2@10.0.0.5")))
        response = self.post(token())
        self.assert_refused(response, 503, "unavailable")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_keys_down(self) -> None:
        """When the keys cannot be had, the token is neither good nor bad."""
        verifier = HeldVerifier()
        self.application = Application(verifier=verifier)
        verifier.answer.errback(Unavailable("no keys", 2))
        self.assert_refused(self.post(token()), 503, "unavailable")

    def test_slow_keys(self) -> None:
        """A verification may take its time; the answer comes then."""
        verifier = HeldVerifier()
        self.application = Application(verifier=verifier)
        socket = Socket(self.application.site)
        head = ["POST /authenticate/token HTTP/1.1", "Host: x", f"Authorization: Bearer {token()}"]
        socket.send("\r\n".join([*head, "", ""]).encode())
        self.assertEqual(socket.taken(), b"")
        verifier.answer.callback(Principal("alice", ISSUER, NOW + 100, NOW))
        self.assertEqual(read_response(socket.taken())[0].status, 200)

    def test_client_leaves(self) -> None:
        """A client that does not wait for the answer costs nothing, and breaks nothing."""
        verifier = HeldVerifier()
        self.application = Application(verifier=verifier)
        cancelled: list[object] = []
        verifier.answer = Deferred(cancelled.append)
        socket = Socket(self.application.site)
        head = ["POST /authenticate/token HTTP/1.1", "Host: x", f"Authorization: Bearer {token()}"]
        socket.send("\r\n".join([*head, "", ""]).encode())
        socket.lose()
        self.assertEqual(len(cancelled), 1)
        self.flushLoggedErrors()

    def test_verifier_is_asked_last(self) -> None:
        """TK-12: what can be refused without the verifier never reaches it."""
        verifier = HeldVerifier()
        verifier.answer.errback(BadToken("never asked"))
        verifier.answer.addErrback(lambda _: None)
        self.application = Application(verifier=verifier)
        asked: list[str] = []
        self.patch(verifier, "verify", asked.append)
        self.post(token(), origin="https://evil.example")
        self.post(None)
        self.post("not a token")
        self.assertEqual(asked, [])

    def test_binding(self) -> None:
        """TK-5, TK-10: the store gets to know whose the ticket is and where it may be used."""
        self.application = Application(ticket=TicketSettings(bind_address=True))
        grants: list[object] = []
        issue = self.application.tickets.issue
        self.patch(
            self.application.tickets,
            "issue",
            lambda grant, ttl: (grants.append(grant), issue(grant, ttl))[1],
        )
        self.post(token(jti="t1"), host="192.0.2.7")
        (grant,) = grants
        self.assertEqual(
            (grant.issuer, grant.user, grant.path, grant.origin, grant.address, grant.token_id),
            (ISSUER, "alice", "/stomp", "https://chat.example.com", "192.0.2.7", "t1"),
        )
        self.assertNotIn(token(jti="t1"), repr(grant))
