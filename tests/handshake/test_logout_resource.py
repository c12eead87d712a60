"""Tests of stompauth.handshake.logout_resource, and of what a logout does to sessions."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import jwt
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import Unavailable
from stompauth.handshake.site import PathRouter, StrictSite
from stompauth.identity.keys import StaticKey
from stompauth.identity.logout import LOGOUT_EVENT, LogoutVerifier
from stompauth.identity.verifier import JWTVerifier
from stompauth.settings import TicketSettings
from tests.applications import AUDIENCE, ISSUER, NOW, SECRET, Application, StompClient, token
from tests.wire import Response, Socket, WebSocket, post_token, request

PATH = "/logout/backchannel"
FORM = "Content-Type: application/x-www-form-urlencoded"


def logout_token(*, secret: bytes = SECRET, **claims: Any) -> str:
    """A logout token as the identity provider of the tests makes it; who it is for is to say."""
    found = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": int(NOW),
        "jti": f"logout of {sorted(claims.items())}",
        "events": {LOGOUT_EVENT: {}},
        **claims,
    }
    return jwt.encode(found, secret, "HS256", {"typ": "logout+jwt"})


class LogoutCase(SynchronousTestCase):
    """An application with the logout resource among its others."""

    def setUp(self) -> None:
        self.make()

    def make(self, **settings: Any) -> None:
        self.application = Application(**settings)
        self.verifier = LogoutVerifier(self.application.verifier, self.application.clock)
        resources = self.application.stompauth.resources()
        resources[PATH.encode()] = self.application.stompauth.logout_resource(self.verifier)
        self.site = StrictSite(PathRouter(resources), self.application.clock)

    def post(
        self,
        body: bytes | str,
        *extra: str,
        method: str = "POST",
        path: str = PATH,
        form: str = FORM,
        host: str = "198.51.100.7",
    ) -> Response:
        octets = body.encode() if isinstance(body, str) else body
        head = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(octets)}", form]
        return request(self.site, [*head, *extra], octets, host)

    def log_out(self, **claims: Any) -> Response:
        """Log somebody out, as the provider does."""
        return self.post(urlencode({"logout_token": logout_token(**claims)}))

    def assert_done(self, response: Response) -> None:
        self.assertEqual((response.status, response.body), (200, b""))
        self.assertEqual(response.headers["cache-control"], "no-store")

    def assert_refused(
        self, response: Response, status: int = 400, error: str = "invalid_request"
    ) -> None:
        self.assertEqual((response.status, response.json), (status, {"error": error}))
        self.assertEqual(response.headers["content-type"], "application/json")
        self.assertEqual(response.headers["cache-control"], "no-store")

    def assert_ended(self, *clients: StompClient) -> None:
        for client in clients:
            self.assertEqual((client.frame().headers["code"], client.close_code), ("revoked", 4403))

    def assert_unharmed(self, *clients: StompClient) -> None:
        for client in clients:
            self.assertEqual((client.frames(), client.close_code), ([], None))


class RequestTests(LogoutCase):
    """Back-Channel Logout 1.0, sections 2.5 and 2.8: one form, and what it is answered with."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.application.connect()

    def test_form(self) -> None:
        """The token comes in a form, perhaps beside what we do not understand."""
        forms = (
            ("", ()),
            ("; charset=UTF-8", (("state", "a b"), ("empty", ""))),
        )
        for n, (parameters, others) in enumerate(forms):
            body = urlencode([("logout_token", logout_token(sub="bob", jti=f"j{n}")), *others])
            self.assert_done(self.post(body, form=FORM + parameters))
        form = "content-type: Application/X-WWW-Form-Urlencoded"
        self.assert_done(self.post(f"logout_token={logout_token(sub='bob')}", form=form))
        self.assert_unharmed(self.alice)

    def test_no_form(self) -> None:
        """What is no such form, or has not exactly one token, is refused."""
        good = logout_token(sub="alice")
        body = f"logout_token={good}"
        many = "&".join(f"p{n}=" for n in range(20))
        for response in (
            self.post(""),
            self.post(f"token={good}"),
            self.post(f"Logout_token={good}"),
            self.post("logout_token="),
            self.post("logout_token"),
            self.post(f"{body}&{body}"),
            self.post(f"logout_token=&{body}"),
            self.post(f"{body}&{many}"),
            self.post(f"{body}\xff".encode("latin-1")),
            self.post(f"{body}&x=%ff"),
            self.post(body, form="Content-Type: application/json"),
            self.post(body, form="Content-Type: multipart/form-data; boundary=x"),
            self.post(body, form="X: y"),
            self.post(body, FORM),
            self.post("", path=f"{PATH}?logout_token={good}"),
            self.post("", f"Authorization: Bearer {good}"),
        ):
            self.assert_refused(response)
        self.assert_unharmed(self.alice)

    def test_bad_tokens(self) -> None:
        """TK-2: whatever is wrong with a token, the answer is the same."""
        for bad in (
            "x",
            "a.b.c",
            token(),
            logout_token(sub="alice", secret=b"y" * 32),
            logout_token(sub="alice", iss="https://other/"),
            logout_token(sub="alice", iat=int(NOW) - 3600),
            logout_token(),
        ):
            self.assert_refused(self.post(f"logout_token={bad}"))
        self.assert_unharmed(self.alice)

    def test_replay(self) -> None:
        """JW-13: a logout token that comes again ends no session that was opened since."""
        self.assert_done(self.log_out(sub="alice"))
        self.application.clock.advance(1)
        ticket = self.application.ticket(iat=int(NOW) + 1)
        again = StompClient(WebSocket(self.application.site, f"/stomp?ticket={ticket}"))
        again.connect(token(iat=int(NOW) + 1))
        again.frames()
        self.assert_refused(self.log_out(sub="alice"))
        self.assert_unharmed(again)

    def test_methods(self) -> None:
        """Only POST."""
        body = f"logout_token={logout_token(sub='alice')}"
        for method in ("GET", "PUT", "DELETE", "OPTIONS"):
            response = self.post(body, method=method)
            self.assert_refused(response, 405, "method")
            self.assertEqual(response.headers["allow"], "POST")
        self.assert_refused(self.post(body, path=f"{PATH}/"), 404, "not-found")
        self.assert_unharmed(self.alice)

    def test_pages(self) -> None:
        """What a browser sends for a page is not from the provider, whatever the page."""
        body = f"logout_token={logout_token(sub='alice')}"
        for origin in ("https://chat.example.com", "https://evil.example", "null"):
            response = self.post(body, f"Origin: {origin}")
            self.assert_refused(response, 403, "origin")
            self.assertNotIn("access-control-allow-origin", response.headers)
        self.assert_unharmed(self.alice)

    def test_large_body(self) -> None:
        """TK-15: a large body is refused before it is read."""
        head = [f"POST {PATH} HTTP/1.1", "Host: x", "Content-Length: 8193", FORM]
        response = request(self.site, head)
        self.assert_refused(response, 413, "too-large")

    def test_longest_token(self) -> None:
        """The longest token fits."""
        fill = "x" * (8000 - len(logout_token(sub="alice", jti="j", fill="")))
        while len(longest := logout_token(sub="alice", jti="j", fill=fill)) > 8000:
            fill = fill[:-1]
        self.assertGreater(len(longest), 7990)
        self.assert_done(self.post(f"logout_token={longest}"))
        self.assert_ended(self.alice)

    def test_failures_of_an_address(self) -> None:
        """TK-12: many bad requests of one address are cut short before a signature is checked."""
        self.make(ticket=TicketSettings(failures_per_address=6))
        for _ in range(3):
            bad = (self.post("x"), self.post("logout_token=x.y.z"), self.post("", "Origin: null"))
            self.assertEqual([response.status for response in bad], [400, 400, 403])
        response = self.log_out(sub="alice")
        self.assert_refused(response, 429, "rate")
        self.assertEqual(response.headers["retry-after"], "10")
        body = f"logout_token={logout_token(sub='alice')}"
        self.assert_done(self.post(body, host="198.51.100.8"))

    def test_good_requests_are_not_limited(self) -> None:
        """A provider may log out a whole company."""
        for n in range(100):
            self.assert_done(self.log_out(sub=f"user{n}"))

    def test_audit(self) -> None:
        """LG-1, LG-3: a refusal is logged with its reason, a logout with whom; no token is."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        bad, good = logout_token(sub="alice", aud="other"), logout_token(sid="s1")
        self.post(f"logout_token={bad}")
        self.post(f"logout_token={good}")
        found = [event for event in events if "audit" in event]
        self.assertEqual([event["audit"] for event in found], ["logout-refused", "revoked"])
        self.assertEqual(found[0]["reason"], "invalid_request: aud")
        self.assertEqual((found[1]["what"], found[1]["name"]), ("sid", "s1"))
        for text in (bad, good):
            self.assertNotIn(text, repr(events))


class EffectTests(LogoutCase):
    """Who is logged out at the provider is logged out here, and stays so."""

    def test_subject(self) -> None:
        """With ``sub``: all the user's sessions and tickets, and the tokens that he has."""
        tabs = [self.application.connect(claims={"sid": f"s{n}"}) for n in range(2)]
        unconnected, bob = self.application.open(), self.application.connect("bob")
        ticket = self.application.ticket()
        self.assert_done(self.log_out(sub="alice"))
        self.assert_ended(*tabs, unconnected)
        self.assert_unharmed(bob)
        self.assertEqual(WebSocket(self.application.site, f"/stomp?ticket={ticket}").status, 401)
        response = post_token(self.application.site, token())
        self.assertEqual((response.status, response.json), (403, {"error": "revoked"}))

    def test_coming_back(self) -> None:
        """With a token that is issued after the logout the user is welcome."""
        self.assert_done(self.log_out(sub="alice"))
        self.application.clock.advance(1)
        later = token(iat=int(NOW) + 1)
        self.assertEqual(post_token(self.application.site, later).status, 200)

    def test_session(self) -> None:
        """With ``sid``: the sessions whose token has it, and tokens that have it, at any time."""
        here = [self.application.connect(claims={"sid": "s1"}) for _ in range(2)]
        there = self.application.connect(claims={"sid": "s2"})
        bob = self.application.connect("bob", claims={"sid": "s3"})
        self.assert_done(self.log_out(sid="s1"))
        self.assert_ended(*here)
        self.assert_unharmed(there, bob)
        site = self.application.site
        self.assertEqual(post_token(site, token(sid="s1")).status, 403)
        self.assertEqual(post_token(site, token(sid="s2")).status, 200)
        self.application.clock.advance(60)
        self.assertEqual(post_token(site, token(sid="s1", iat=int(NOW) + 60)).status, 403)

    def test_ticket_of_a_session(self) -> None:
        """What the token of an outstanding ticket, or of an open socket, says counts likewise."""
        site = self.application.site
        tickets = [self.application.ticket(sid=sid) for sid in ("s1", "s1", "s2")]
        here = StompClient(WebSocket(site, f"/stomp?ticket={tickets.pop(0)}"))
        self.assert_done(self.log_out(sid="s1"))
        self.assert_ended(here)
        statuses = [WebSocket(site, f"/stomp?ticket={ticket}").status for ticket in tickets]
        self.assertEqual(statuses, [401, 101])

    def test_both(self) -> None:
        """With both: not the user's other sessions, but those that cannot be told from this."""
        here = self.application.connect(claims={"sid": "s1"})
        there = self.application.connect(claims={"sid": "s2"})
        somewhere, bob = self.application.connect(), self.application.connect("bob")
        self.assert_done(self.log_out(sub="alice", sid="s1"))
        self.assert_ended(here, somewhere)
        self.assert_unharmed(there, bob)
        site = self.application.site
        statuses = [
            post_token(site, found).status
            for found in (token(sid="s1"), token(), token(sid="s2"), token("bob"))
        ]
        self.assertEqual(statuses, [403, 403, 200, 200])

    def test_renewal(self) -> None:
        """A session that is open by a ``sid`` cannot be renewed by one that was logged out."""
        client = self.application.connect(claims={"sid": "s2"})
        self.assert_done(self.log_out(sid="s1"))
        authorization = f"Bearer {token(sid='s1')}"
        client.send("SEND", destination="/session/token", Authorization=authorization)
        self.assert_ended(client)

    def test_latest_token(self) -> None:
        """What counts is the token that the session has now."""
        client = self.application.connect(claims={"sid": "s1"})
        authorization = f"Bearer {token(sid='s2')}"
        client.send("SEND", destination="/session/token", Authorization=authorization)
        self.assert_done(self.log_out(sid="s1"))
        self.assert_unharmed(client)
        self.assert_done(self.log_out(sid="s2"))
        self.assert_ended(client)

    def test_before_connect(self) -> None:
        """A socket without a session gets none by a token that was logged out meanwhile."""
        client = self.application.open()
        self.assert_done(self.log_out(sid="s1"))
        client.connect(token(sid="s1"))
        self.assert_ended(client)

    def test_another_user_claim(self) -> None:
        """Where users are named by another claim, ``sub`` is still the provider's name for them."""
        clock = Clock()
        clock.advance(NOW)
        verifier = JWTVerifier(
            StaticKey.hmac(SECRET),
            algorithms=["HS256"],
            issuer=ISSUER,
            audience=AUDIENCE,
            clock=clock,
            user_claim="name",
        )
        self.make(verifier=verifier)
        alice = self.connect_as("alice", sub="1001")
        other = self.connect_as("1001", sub="alice")
        self.assert_done(self.log_out(sub="1001"))
        self.assert_ended(alice)
        self.assert_unharmed(other)
        site = self.application.site
        self.assertEqual(post_token(site, token("1001", name="alice")).status, 403)
        self.assertEqual(post_token(site, token("alice", name="1001")).status, 200)

    def connect_as(self, name: str, sub: str) -> StompClient:
        ticket = self.application.ticket(sub, name=name)
        client = StompClient(WebSocket(self.application.site, f"/stomp?ticket={ticket}"))
        client.connect(token(sub, name=name))
        return client

    def test_tickets_unavailable(self) -> None:
        """I8: a logout that could not be carried out whole is not confirmed, and may come again."""
        alice = self.application.connect()
        revoke = self.application.tickets.revoke
        self.patch(self.application.tickets, "revoke", lambda *_: fail(Unavailable("down", 3)))
        response = self.log_out(sub="alice")
        self.assert_refused(response, 503, "unavailable")
        self.assertEqual(response.headers["retry-after"], "3")
        self.assert_ended(alice)
        self.patch(self.application.tickets, "revoke", revoke)
        self.assert_done(self.log_out(sub="alice"))

    def test_keys_unavailable(self) -> None:
        """Without keys nobody can tell who asks; the provider may try again."""
        unavailable = fail(Unavailable("no keys", 2))
        self.patch(self.verifier, "verify", lambda token: unavailable)
        response = self.log_out(sub="alice")
        self.assert_refused(response, 503, "unavailable")
        self.assertEqual(response.headers["retry-after"], "2")

    def test_failure(self) -> None:
        """TK-16: an error of ours is a 503 that tells nothing of it, and uses nothing up."""
        revoke = self.application.tickets.revoke
        self.patch(self.application.tickets, "revoke", lambda *_: fail(OSError("hunter2")))
        self.assert_refused(self.log_out(sub="alice"), 503, "unavailable")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.patch(self.application.tickets, "revoke", revoke)
        self.assert_done(self.log_out(sub="alice"))

    def test_provider_leaves(self) -> None:
        """A logout is carried out also when the provider does not wait."""
        alice = self.application.connect()
        keys = self.application.verifier.keys
        waiting: Deferred[None] = Deferred()

        class LateKeys:
            async def keys_for(self, algorithm: str, kid: str | None) -> Any:
                await waiting
                return await keys.keys_for(algorithm, kid)

        self.patch(self.verifier._signed, "_keys", LateKeys())
        body = f"logout_token={logout_token(sub='alice')}".encode()
        head = [f"POST {PATH} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", FORM]
        socket = Socket(self.site)
        socket.send("\r\n".join([*head, "", ""]).encode() + body)
        socket.lose()
        self.assert_unharmed(alice)
        waiting.callback(None)
        self.assert_ended(alice)
