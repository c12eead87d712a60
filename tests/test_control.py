"""Tests of stompauth.control."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, fail
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from stompauth.application import Revoked
from stompauth.control import FAILURES_PER_ADDRESS, MAX_BODY, ControlResource
from stompauth.errors import Refused, Unavailable
from stompauth.handshake.site import StrictSite
from tests.applications import ISSUER, NOW, Application, StompClient, token
from tests.wire import Response, Socket, WebSocket, post_token, request

TOKEN = "b1bCa8LY1g2vNxhbWnT0cQmqS5kJcYxk"

#: Every request that there is, with a body where it has one.
REQUESTS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/sessions?user=alice", None),
    ("GET", "/sessions/x", None),
    ("DELETE", "/sessions/x", None),
    ("POST", "/revoke", {"user": "alice"}),
    ("POST", "/recheck", {"user": "alice"}),
    ("POST", "/drain", {}),
    ("POST", "/publish", {"destination": "/topic/rooms/lobby", "body": "x"}),
    ("POST", "/users/alice/send", {"destination": "/queue/private", "body": "x"}),
)


class ControlCase(SynchronousTestCase):
    """An application with a control resource on a site of its own."""

    def setUp(self) -> None:
        self.application = Application()
        resource = ControlResource(
            self.application.stompauth, token=TOKEN, clock=self.application.clock
        )
        self.site = StrictSite(resource, self.application.clock, max_body=MAX_BODY)

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        extra: tuple[str, ...] = (),
        host: str = "127.0.0.1",
    ) -> Response:
        """Make a request. A body that is not octets goes as JSON."""
        octets = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body)
        octets = octets.encode() if isinstance(octets, str) else octets
        head = [f"{method} {target} HTTP/1.1", "Host: x", f"Content-Length: {len(octets)}", *extra]
        if token is not None:
            head.append(f"Authorization: Bearer {token}")
        return request(self.site, head, octets, host)

    def answer(self, *args: Any) -> Any:
        """What a request that is in order is answered with."""
        response = self.ask(*args)
        self.assertEqual((response.status, response.reason), (200, "OK"), response.body)
        return response.json

    def assert_refused(self, response: Response, status: int, slug: str) -> None:
        self.assertEqual((response.status, response.json["error"]), (status, slug))
        self.assertEqual(response.headers["content-type"], "application/json")
        self.assertEqual(response.headers["cache-control"], "no-store")

    def session_of(self, client: StompClient) -> str:
        assert client.connected is not None
        return client.connected.headers["session"]


class AuthenticationTests(ControlCase):
    """OP-1: who does not know the token can do nothing, and learns nothing."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.application.connect()

    def test_every_request(self) -> None:
        """Each request needs the token, in one Authorization header of the right scheme."""
        for method, target, body in REQUESTS:
            for wrong in (
                {"token": None},
                {"token": TOKEN[:-1]},
                {"token": TOKEN + "A"},
                {"token": TOKEN.lower()},
                {"token": token()},
                {"token": None, "extra": (f"Authorization: Basic {TOKEN}",)},
                {"token": None, "extra": (f"Cookie: token={TOKEN}",)},
                {"extra": (f"Authorization: Bearer {TOKEN}",)},
            ):
                self.application.clock.advance(10)
                response = self.ask(method, target, body, **wrong)  # type: ignore[arg-type]
                self.assert_refused(response, 401, "unauthorized")
                self.assertTrue(response.headers["www-authenticate"].startswith("Bearer"))
        self.assertEqual((self.alice.frames(), self.alice.close_code), ([], None))

    def test_challenge(self) -> None:
        """The challenge tells whether a token was sent, and no more (RFC 6750 section 3)."""
        response = self.ask("GET", "/sessions?user=alice", token=None)
        self.assertEqual(response.headers["www-authenticate"], "Bearer")
        response = self.ask("GET", "/sessions?user=alice", token="x" * 32)
        self.assertEqual(response.headers["www-authenticate"], 'Bearer error="invalid_token"')

    def test_scheme_in_any_case(self) -> None:
        """The scheme's name has no case (RFC 9110 section 11.1)."""
        extra = (f"Authorization: bEARER {TOKEN}",)
        response = self.ask("GET", "/sessions?user=alice", token=None, extra=extra)
        self.assertEqual(response.status, 200)

    def test_pages(self) -> None:
        """A page in the operator's browser gets nothing, whatever it knows."""
        for origin in ("https://chat.example.com", "http://127.0.0.1:8081", "null"):
            response = self.ask("POST", "/revoke", {"user": "alice"}, extra=(f"Origin: {origin}",))
            self.assert_refused(response, 403, "origin")
            self.assertNotIn("access-control-allow-origin", response.headers)
            preflight = self.ask("OPTIONS", "/revoke", extra=(f"Origin: {origin}",))
            self.assert_refused(preflight, 405, "method")
        self.assertEqual(self.alice.frames(), [])

    def test_guessing(self) -> None:
        """TK-12: an address with many bad tokens is not listened to for a while, others are."""
        for _ in range(FAILURES_PER_ADDRESS):
            self.assertEqual(self.ask("GET", "/sessions?user=alice", token="x" * 32).status, 401)
        response = self.ask("GET", "/sessions?user=alice")
        self.assert_refused(response, 429, "rate")
        self.assertEqual(response.headers["retry-after"], "3")
        self.assertEqual(self.ask("GET", "/sessions?user=alice", host="127.0.0.2").status, 200)
        self.application.clock.advance(3)
        self.assertEqual(self.ask("GET", "/sessions?user=alice").status, 200)

    def test_weak_tokens(self) -> None:
        """A token that could be guessed, or cannot be sent, makes no resource."""
        application = self.application.stompauth
        for weak in ("", "x" * 31, "x" * 8001, "two words " * 4, "\xfc" * 32, "x" * 32 + "\n"):
            with self.assertRaises(ValueError):
                ControlResource(application, token=weak, clock=self.application.clock)

    def test_audit(self) -> None:
        """LG-3: who was turned away is logged, and the token that was shown is not."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.ask("GET", "/sessions?user=alice", token="guess" * 8)
        self.ask("GET", "/sessions?user=alice")
        refused = [event for event in events if event.get("audit") == "control-refused"]
        self.assertEqual(
            [(event["address"], event["reason"]) for event in refused],
            [("127.0.0.1", "unauthorized")],
        )
        self.assertNotIn("guess", repr(events))
        self.assertNotIn(TOKEN, repr(events))


class RoutingTests(ControlCase):
    """What is not a request of the contract is refused as at the ticket endpoint."""

    def test_paths(self) -> None:
        """Paths are exact."""
        for target in (
            "/",
            "/sessions/a/b",
            "/Sessions?user=a",
            "//sessions?user=a",
            "/revoke/",
            "/users/alice",
            "/users/alice/send/",
            "/users/a/b/send",
            "/users/alice/sen%64",
            "x/sessions?user=a",
        ):
            self.assert_refused(self.ask("GET", target), 404, "not-found")

    def test_methods(self) -> None:
        """Any other method is told which there are."""
        for target, allowed in (
            ("/sessions?user=a", "GET"),
            ("/sessions/x", "DELETE, GET"),
            ("/revoke", "POST"),
            ("/users/alice/send", "POST"),
        ):
            for method in {"GET", "POST", "DELETE", "PUT", "FOO"} - set(allowed.split(", ")):
                response = self.ask(method, target)
                self.assert_refused(response, 405, "method")
                self.assertEqual(response.headers["allow"], allowed)

    def test_large_body(self) -> None:
        """A body is at most 1 MiB; a larger one, or one of unknown length, is not read."""
        body = {"destination": "/topic/rooms/lobby", "body": ""}
        body["body"] = "x" * (MAX_BODY - len(json.dumps(body)))
        self.assertEqual(self.answer("POST", "/publish", body), {})
        for length in (f"Content-Length: {MAX_BODY + 1}", "Transfer-Encoding: chunked"):
            socket = Socket(self.site)
            head = ["POST /publish HTTP/1.1", "Host: x", f"Authorization: Bearer {TOKEN}", length]
            socket.send("\r\n".join([*head, "", ""]).encode())
            self.assertIn(b'{"error": "too-large"}', socket.taken())
            self.assertTrue(socket.lost)

    def test_bodies(self) -> None:
        """A body is a JSON object with the request's keys; what else it is, is told by its key."""
        message = {"destination": "/topic/rooms/lobby", "body": "x"}
        for target, body, key in (
            ("/publish", b"", "the body"),
            ("/publish", b"[1]", "the body"),
            ("/publish", b"{", "the body"),
            ("/publish", b"[" * 100_000, "the body"),
            ("/publish", b'{"destination": "/topic/x", "body": "\xff"}', "the body"),
            ("/publish", b'{"destination": "/topic/x", "body": "\\ud800"}', "the body"),
            ("/publish", {"destination": "/topic/x"}, "body"),
            ("/publish", {"body": "x"}, "destination"),
            ("/publish", {**message, "body": None}, "body"),
            ("/publish", {**message, "body": {"a": 1}}, "body"),
            ("/publish", {**message, "destination": 1}, "destination"),
            ("/publish", {**message, "headers": "a"}, "headers"),
            ("/publish", {**message, "headers": {"a": 1}}, "headers"),
            ("/publish", {**message, "headers": None}, "headers"),
            ("/publish", {**message, "user": "alice"}, "user"),
            ("/publish", {**message, "x" * 1000: "a"}, "x" * 64),
            ("/users/alice/send", {**message, "session": "x"}, "session"),
            ("/users/alice/send", {"body": "x"}, "destination"),
            ("/recheck", {}, "user"),
            ("/recheck", {"user": ["alice"]}, "user"),
            ("/recheck", {"user": "alice", "reason": "x"}, "reason"),
            ("/revoke", {}, "user, session, token_id"),
            ("/revoke", {"reason": "x"}, "user, session, token_id"),
            ("/revoke", {"user": "alice", "session": "x"}, "user, session, token_id"),
            ("/revoke", {"user": True}, "user"),
            ("/revoke", {"token_id": 1}, "token_id"),
            ("/revoke", {"user": "alice", "reason": 1}, "reason"),
            ("/revoke", {"user": "alice", "until": "x"}, "until"),
        ):
            response = self.ask("POST", target, body)
            self.assert_refused(response, 400, "malformed")
            self.assertEqual(response.json["detail"].partition(":")[0], key)

    def test_user_names(self) -> None:
        """A name that nobody can have is a mistake of the caller's, wherever it stands."""
        message = {"destination": "/queue/private", "body": "x"}
        for name in ("", "a/b", "a%b", "queue", " a", "e\u0301", "a\nb", "x" * 256):
            for response in (
                self.ask("GET", f"/sessions?user={quote(name, safe='')}"),
                self.ask("POST", f"/users/{quote(name, safe='')}/send", message),
                self.ask("POST", "/revoke", {"user": name}),
                self.ask("POST", "/recheck", {"user": name}),
            ):
                self.assert_refused(response, 400, "malformed")
                self.assertTrue(response.json["detail"].startswith("user: "))

    def test_urls(self) -> None:
        """So is a URL that is no UTF-8, and a query that is not the one user."""
        message = {"destination": "/queue/private", "body": "x"}
        self.assert_refused(self.ask("POST", "/users/%ff/send", message), 400, "malformed")
        for query in ("", "?", "?user", "?user=a&user=b", "?user=a&x=b", "?User=a", "?user=%ff"):
            self.assert_refused(self.ask("GET", f"/sessions{query}"), 400, "malformed")

    def test_no_form(self) -> None:
        """The query of a POST, or a form, says nothing."""
        extra = ("Content-Type: application/x-www-form-urlencoded",)
        response = self.ask("POST", "/recheck?user=alice", b"user=alice", extra=extra)
        self.assert_refused(response, 400, "malformed")


class SessionsTests(ControlCase):
    """Who is here."""

    def test_list(self) -> None:
        """All sessions of a user, and nobody else's."""
        tabs = [self.application.connect(), self.application.connect(version="1.1")]
        self.application.connect("bob")
        self.application.open()
        found = self.answer("GET", "/sessions?user=alice")
        self.assertEqual(
            [session["id"] for session in found["sessions"]], [self.session_of(t) for t in tabs]
        )
        self.assertEqual([session["version"] for session in found["sessions"]], ["1.2", "1.1"])
        self.assertEqual(self.answer("GET", "/sessions?user=carol"), {"sessions": []})

    def test_name_in_a_query(self) -> None:
        """A name is percent-encoded in UTF-8."""
        self.application.connect("Zo\xeb & co")
        (session,) = self.answer("GET", "/sessions?user=Zo%C3%AB+%26%20co")["sessions"]
        self.assertEqual(session["user"], "Zo\xeb & co")

    def test_session(self) -> None:
        """What there is to know of a session; the claims of its token are not."""
        client = self.application.connect(claims={"jti": "t1", "email": "alice@example.com"})
        client.send("SUBSCRIBE", id="room", destination="/topic/rooms/lobby")
        client.send("SUBSCRIBE", id="0", destination="/queue/work/x", ack="client")
        session_id = self.session_of(client)
        response = self.ask("GET", f"/sessions/{session_id}")
        self.assertEqual(
            response.json,
            {
                "id": session_id,
                "user": "alice",
                "issuer": ISSUER,
                "address": "192.0.2.1",
                "version": "1.2",
                "token_id": "t1",
                "expires_at": int(NOW) + 3600,
                "subscriptions": [
                    {"id": "room", "destination": "/topic/rooms/lobby", "ack": "auto"},
                    {"id": "0", "destination": "/queue/work/x", "ack": "client"},
                ],
            },
        )

    def test_no_subscription_id(self) -> None:
        """A subscription of STOMP 1.0 may have no id."""
        client = self.application.connect(version="1.0")
        client.send("SUBSCRIBE", destination="/topic/rooms/lobby")
        found = self.answer("GET", f"/sessions/{self.session_of(client)}")
        self.assertEqual(
            found["subscriptions"],
            [{"id": None, "destination": "/topic/rooms/lobby", "ack": "auto"}],
        )
        self.assertIsNone(found["token_id"])

    def test_unknown(self) -> None:
        """A session that has ended, or never was, is not found."""
        client = self.application.connect()
        client.send("DISCONNECT")
        for segment in (self.session_of(client), "x", "%2F", "", "x" * 5000):
            for method in ("GET", "DELETE"):
                response = self.ask(method, f"/sessions/{segment}")
                self.assert_refused(response, 404, "unknown-session")

    def test_end(self) -> None:
        """DELETE ends the one session, which may come back."""
        tabs = [self.application.connect() for _ in range(2)]
        answer = self.answer("DELETE", f"/sessions/{self.session_of(tabs[0])}")
        self.assertEqual(answer, {"sessions": 1, "tickets": 0})
        self.assertEqual((tabs[0].frame().headers["code"], tabs[0].close_code), ("revoked", 4403))
        self.assertEqual((tabs[1].frames(), tabs[1].close_code), ([], None))
        self.application.connect()


class RevocationTests(ControlCase):
    """JW-13: access is withdrawn at once, and stays withdrawn."""

    def setUp(self) -> None:
        super().setUp()
        self.tabs = [self.application.connect(claims={"jti": f"t{n}"}) for n in range(2)]
        self.bob = self.application.connect("bob")

    def assert_revoked(self, *clients: StompClient) -> None:
        for client in clients:
            self.assertEqual((client.frame().headers["code"], client.close_code), ("revoked", 4403))
        self.assertEqual((self.bob.frames(), self.bob.close_code), ([], None))

    def test_user(self) -> None:
        """Sessions, tickets and tokens of a user."""
        ticket = self.application.ticket()
        answer = self.answer("POST", "/revoke", {"user": "alice", "reason": "has left"})
        self.assertEqual(answer, {"sessions": 2, "tickets": 1})
        self.assert_revoked(*self.tabs)
        site = self.application.site
        self.assertEqual(post_token(site, token()).status, 403)
        self.assertEqual(WebSocket(site, f"/stomp?ticket={ticket}").status, 401)

    def test_session(self) -> None:
        """One session."""
        session_id = self.session_of(self.tabs[1])
        answer = self.answer("POST", "/revoke", {"session": session_id})
        self.assertEqual(answer, {"sessions": 1, "tickets": 0})
        self.assert_revoked(self.tabs[1])
        self.assertEqual(self.tabs[0].frames(), [])

    def test_token(self) -> None:
        """One token."""
        answer = self.answer("POST", "/revoke", {"token_id": "t0"})
        self.assertEqual(answer, {"sessions": 1, "tickets": 0})
        self.assert_revoked(self.tabs[0])
        self.assertEqual(post_token(self.application.site, token(jti="t0")).status, 403)

    def test_nobody(self) -> None:
        """That there is nobody to revoke is no mistake: tokens of his may come yet."""
        answer = self.answer("POST", "/revoke", {"user": "carol"})
        self.assertEqual(answer, {"sessions": 0, "tickets": 0})
        self.assertEqual(post_token(self.application.site, token("carol")).status, 403)

    def test_tickets_unavailable(self) -> None:
        """I8: where tickets cannot be voided the caller learns it; all else is done."""
        self.patch(self.application.tickets, "revoke", lambda *_: fail(Unavailable("down", 6.5)))
        response = self.ask("POST", "/revoke", {"user": "alice"})
        self.assert_refused(response, 503, "unavailable")
        self.assertEqual(response.headers["retry-after"], "7")
        self.assert_revoked(*self.tabs)

    def test_caller_leaves(self) -> None:
        """A revocation is carried out to its end, whoever waits for the answer."""
        waiting: Deferred[int] = Deferred()
        self.patch(self.application.tickets, "revoke", lambda *_: waiting)
        socket = Socket(self.site)
        body = b'{"user": "alice"}'
        head = [
            "POST /revoke HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {TOKEN}",
            f"Content-Length: {len(body)}",
        ]
        socket.send("\r\n".join([*head, "", ""]).encode() + body)
        socket.lose()
        self.assertFalse(waiting.called)
        waiting.callback(0)
        self.assert_revoked(*self.tabs)

    def test_failure(self) -> None:
        """TK-16: an error of ours is a 503 that tells nothing of it."""

        def revoke(**_: object) -> Deferred[Revoked]:
            return fail(OSError("redis://:hunter2@10.0.0.5"))

        self.patch(self.application.stompauth, "revoke", revoke)
        response = self.ask("POST", "/revoke", {"user": "alice"})
        self.assert_refused(response, 503, "unavailable")
        self.assertNotIn(b"hunter2", response.body)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_drain(self) -> None:
        """OP-4: the server stops as it does when it is asked to by a signal."""
        client = self.application.connect()
        self.assertEqual(self.answer("POST", "/drain"), {"sessions": 4})
        self.assertIsNotNone(client.close_code)
        self.assertFalse(self.application.stompauth.readiness()["serving"])

    def test_drain_once(self) -> None:
        """Who asks again does not begin it again."""
        begun: list[None] = []
        resource = ControlResource(
            self.application.stompauth,
            token=TOKEN,
            clock=self.application.clock,
            stop=lambda: begun.append(None),
        )
        self.site = StrictSite(resource, self.application.clock, max_body=MAX_BODY)
        for _ in range(2):
            self.answer("POST", "/drain")
        self.assertEqual(begun, [None])

    def test_recheck(self) -> None:
        """AZ-10: the rules are asked again, and a subscription that is lost is told so."""
        for client in (*self.tabs, self.bob):
            client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        self.assertEqual(self.answer("POST", "/recheck", {"user": "carol"}), {"sessions": 0})

        def refuse(*_: object) -> None:
            raise Refused("access-denied")

        self.patch(self.application.stompauth._sessions, "authorize", refuse)
        self.assertEqual(self.answer("POST", "/recheck", {"user": "alice"}), {"sessions": 2})
        for tab in self.tabs:
            notice = tab.frame()
            self.assertEqual(
                (notice.headers["code"], notice.headers["subscription"]), ("access-denied", "1")
            )
        self.assertEqual(self.bob.frames(), [])


class MessagesTests(ControlCase):
    """Messages from a backend to its users."""

    def test_publish(self) -> None:
        """Text goes to a topic as UTF-8, with headers, past the rules."""
        client = self.application.connect()
        client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        body = {
            "destination": "/topic/rooms/lobby",
            "body": "h\xe4llo \U0001f600",
            "headers": {"content-type": "text/plain", "color": "red", "Session": "no"},
        }
        self.assertEqual(self.answer("POST", "/publish", body), {})
        message = client.frame()
        self.assertEqual(message.body.decode(), "h\xe4llo \U0001f600")
        self.assertEqual(message.headers["color"], "red")
        self.assertNotIn("Session", message.headers)

    def test_send_to_user(self) -> None:
        """A message to all sessions of one user that subscribe to it."""
        tabs = [self.application.connect() for _ in range(3)]
        for tab in tabs[:2]:
            tab.send("SUBSCRIBE", id="1", destination="/user/queue/private")
        body = {"destination": "/queue/private", "body": "x"}
        self.assertEqual(self.answer("POST", "/users/alice/send", body), {"sessions": 2})
        self.assertEqual([len(tab.frames()) for tab in tabs], [1, 1, 0])
        self.assertEqual(self.answer("POST", "/users/bob/send", body), {"sessions": 0})

    def test_name_in_a_path(self) -> None:
        """A name is one segment, percent-encoded in UTF-8; a plus sign is one."""
        client = self.application.connect("Zo\xeb+1")
        client.send("SUBSCRIBE", id="1", destination="/user/queue/private")
        body = {"destination": "/queue/private", "body": ""}
        self.assertEqual(self.answer("POST", "/users/Zo%C3%AB+1/send", body), {"sessions": 1})
        self.assertEqual(client.frame().body, b"")

    def test_bad_destinations(self) -> None:
        """AZ-2: a destination that the grammar refuses, or that nothing serves, is told by code."""
        for target, destination, code in (
            ("/publish", "/topic//x", "bad-destination"),
            ("/publish", "topic", "bad-destination"),
            ("/publish", "/topic/*", "bad-destination"),
            ("/publish", "/nowhere/x", "no-such-destination"),
            ("/users/alice/send", "/queue/../x", "bad-destination"),
            ("/users/alice/send", "/topic/x", "no-such-destination"),
            ("/users/alice/send", "/user/bob/queue/x", "no-such-destination"),
        ):
            response = self.ask("POST", target, {"destination": destination, "body": "x"})
            self.assert_refused(response, 400, code)

    def test_full(self) -> None:
        """What cannot be taken now may come again later."""
        refused = fail(Refused("queue-full"))
        self.patch(self.application.stompauth, "publish", lambda **_: refused)
        response = self.ask("POST", "/publish", {"destination": "/queue/work/x", "body": "x"})
        self.assert_refused(response, 503, "queue-full")
        self.assertEqual(response.headers["retry-after"], "1")
