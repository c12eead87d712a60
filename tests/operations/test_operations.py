"""Tests of stompauth.operations.operations."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.defer import fail
from twisted.logger import LogEvent, globalLogPublisher

from stompauth.errors import Unavailable
from stompauth.operations import tracing, watch
from stompauth.operations.operations import (
    LIFETIME,
    MAX_OPERATORS,
    MAX_QUEUES,
    MAX_SESSIONS,
    ControlTokenVerifier,
)
from tests.applications import NOW, StompClient, token
from tests.operations.pages import ORIGIN, TOKEN, PageCase
from tests.wire import WebSocket, post_token, request

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "operations-page.md"


def session_of(client: StompClient) -> str:
    """The id of a client's session."""
    assert client.connected is not None
    return client.connected.headers["session"]


class FilesTests(PageCase):
    """What anybody gets who can reach the listener."""

    def get(self, target: str, *extra: str) -> str:
        response = request(self.site, [f"GET {target} HTTP/1.1", "Host: x", *extra])
        self.assertEqual(response.status, 200, target)
        self.assertEqual(response.headers["cache-control"], "no-store")
        self.assertEqual(response.headers["referrer-policy"], "no-referrer")
        self.policy = response.headers["content-security-policy"]
        return response.body.decode()

    def test_page(self) -> None:
        """All that the page loads is here, and none of it is inline."""
        page = self.get("/")
        for target in re.findall(r'(?:src|href)="([^"]+)"', page):
            self.assertTrue(self.get(f"/{target}"))
        self.assertNotRegex(page, r"<style|style=|\son\w+=|<script(?![^>]*src=)")
        self.assertNotIn("://", page)

    def test_policy(self) -> None:
        """A browser may load the page's own files, and make no HTML of strings."""
        self.get("/operations/operations.js")
        policy = dict(part.strip().split(" ", 1) for part in self.policy.split(";"))
        self.assertEqual(policy["default-src"], "'none'")
        self.assertEqual(policy["script-src"], "'self'")
        self.assertEqual(policy["connect-src"], "'self'")
        self.assertEqual(policy["frame-ancestors"], "'none'")
        self.assertEqual(policy["require-trusted-types-for"], "'script'")
        self.assertNotIn("unsafe", self.policy)

    def test_scripts(self) -> None:
        """The scripts store nothing in the browser, and use nothing that takes HTML."""
        for name in ("operations.js", "stomp.js"):
            self.assertNotRegex(
                self.get(f"/operations/{name}"),
                r"Storage|cookie|innerHTML|outerHTML|insertAdjacent|document\.write|eval",
            )

    def test_control(self) -> None:
        """OP-1: beside the page, the control resource is what it was."""
        head = ["GET /sessions?user=alice HTTP/1.1", "Host: x"]
        self.assertEqual(request(self.site, head).status, 401)
        head.append(f"Authorization: Bearer {TOKEN}")
        self.assertEqual(request(self.site, head).json, {"sessions": []})
        self.assertEqual(request(self.site, [*head, f"Origin: {ORIGIN}"]).status, 403)
        head[0] = "GET /operations/nothing HTTP/1.1"
        self.assertEqual(request(self.site, head).status, 404)


class AccessTests(PageCase):
    """OP-1: who does not know the control token learns nothing."""

    def test_tokens(self) -> None:
        """Nothing but the control token gets a ticket; a user's token does not."""
        for wrong in (None, TOKEN[:-1], TOKEN.lower(), token(), "\xe4" * 40):
            response = post_token(self.site, wrong, ORIGIN, "/operations/ticket")
            self.assertEqual(response.status, 401)
        self.assertEqual(self.application.stompauth.sessions.of_user("operator"), [])

    def test_guessing(self) -> None:
        """An address that guesses has to wait, with the right token too."""
        for _ in range(20):
            post_token(self.site, "x" * 32, ORIGIN, "/operations/ticket")
        response = post_token(self.site, TOKEN, ORIGIN, "/operations/ticket")
        self.assertEqual(response.status, 429)

    def test_control_token_elsewhere(self) -> None:
        """The control token is nothing to the application's own clients' entrance."""
        self.assertEqual(post_token(self.application.site, TOKEN).status, 401)

    def test_tickets_elsewhere(self) -> None:
        """A user's ticket does not open the operators' WebSocket, nor theirs his."""
        theirs = self.application.ticket()
        for site, target in (
            (self.site, f"/operations/stomp?ticket={theirs}"),
            (self.application.site, f"/stomp?ticket={self.ticket()}"),
        ):
            origin = ORIGIN if site is self.site else "https://chat.example.com"
            self.assertEqual(WebSocket(site, target, origin).response.status, 401)

    def test_connect(self) -> None:
        """CONNECT needs the token once more."""
        client = self.open()
        client.connect(token())
        self.assertIsNone(client.connected)
        self.assertEqual(client.close_code, 4401)

    def test_other_pages(self) -> None:
        """Pages of another host are turned down, with the right token too."""
        for origin in ("https://evil.example", f"{ORIGIN}:8081", "null", f"{ORIGIN}.evil.example"):
            response = post_token(self.site, TOKEN, origin, "/operations/ticket")
            self.assertEqual((response.status, response.json), (403, {"error": "origin"}))
            self.assertNotIn("access-control-allow-origin", response.headers)
            target = f"/operations/stomp?ticket={self.ticket()}"
            self.assertEqual(WebSocket(self.site, target, origin).response.status, 403)

    def test_rules(self) -> None:
        """An operator's session is for the page, and for nothing else."""
        for command, destination in (
            ("SUBSCRIBE", "/topic/ops/other"),
            ("SUBSCRIBE", "/topic/rooms/lobby"),
            ("SUBSCRIBE", "/topic/**"),
            ("SUBSCRIBE", "/user/queue/private"),
            ("SUBSCRIBE", "/queue/work/1"),
            ("SEND", "/topic/ops/live"),
            ("SEND", "/user/queue/ops/answers"),
            ("SEND", "/user/operator/queue/ops/trace"),
            ("SEND", "/queue/ops/1"),
        ):
            operator = self.operator()
            operator.send(command, destination=destination, id="x")
            self.assertEqual(operator.read()[-1].headers["code"], "access-denied", destination)
            self.assertEqual(operator.close_code, 4403)

    def test_hour(self) -> None:
        """The token is good for an hour at a time."""
        verifier = ControlTokenVerifier(TOKEN, self.clock)
        principal = self.successResultOf(verifier.verify(TOKEN))
        self.assertEqual(principal.expires_at, NOW + LIFETIME)

    def test_number(self) -> None:
        """There are so many operators at a time, and one more is told to wait."""
        for _ in range(MAX_OPERATORS):
            self.clock.advance(1)
            self.operator()
        self.clock.advance(1)
        response = post_token(self.site, TOKEN, ORIGIN, "/operations/ticket")
        self.assertEqual((response.status, response.json["error"]), (429, "sessions"))

    def test_secrets(self) -> None:
        """Neither token nor ticket is in the log or in what operators are sent."""
        logged: list[LogEvent] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        operator = self.operator()
        ticket = self.application.ticket()
        jwt_ = token("bob")
        post_token(self.site, "y" * 32, ORIGIN, "/operations/ticket")
        self.application.connect("bob")
        self.clock.advance(1)
        operator.read()
        told = repr((logged, operator.live, operator.ask("sessions")))
        self.assertIn("bob", told)
        for secret in (TOKEN, ticket, jwt_, "y" * 32):
            self.assertNotIn(secret, told)


class QuestionTests(PageCase):
    """What operators ask for, and have done."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.application.connect()
        self.alice.send("SUBSCRIBE", id="a", destination="/topic/rooms/lobby")
        self.page = self.operator()

    def test_server(self) -> None:
        """The first thing that the page gets is what it is about."""
        self.page.send("SUBSCRIBE", id="server", destination="/app/ops/server")
        (frame,) = self.page.read()
        self.assertIn(b'"version"', frame.body)
        self.assertIn(b'"serving": true', frame.body)

    def test_sessions(self) -> None:
        """A session is listed with its user, address, age, subscriptions and buffer."""
        self.clock.advance(5)
        bob = self.application.connect("bob")
        answer = self.page.ask("sessions")
        self.assertEqual((answer["matching"], answer["total"]), (2, 2))
        self.assertEqual(
            [session["id"] for session in answer["sessions"]],
            [session_of(bob), session_of(self.alice)],
        )
        alice = answer["sessions"][1]
        self.assertEqual((alice["user"], alice["address"]), ("alice", "192.0.2.1"))
        self.assertEqual((alice["opened_at"], alice["subscriptions"], alice["buffer"]), (NOW, 1, 0))

    def test_search(self) -> None:
        """A part of a user's name finds his sessions."""
        self.application.connect("bob")
        answer = self.page.ask("sessions", text="ob")
        self.assertEqual([session["user"] for session in answer["sessions"]], ["bob"])
        self.assertEqual((answer["matching"], answer["total"]), (1, 2))

    def test_order(self) -> None:
        """The largest buffers come first where that is asked for."""
        bob = self.application.connect("bob")
        bob.send("SUBSCRIBE", id="b", destination="/topic/rooms/lobby")
        self.application.connect("carol")
        (session,) = self.application.stompauth.sessions.of_user("bob")
        session.blocked()
        self.alice.send("SEND", b"x" * 5000, destination="/topic/rooms/lobby")
        first = self.page.ask("sessions", order="buffer")["sessions"][0]
        self.assertEqual(first["user"], "bob")
        self.assertGreater(first["buffer"], 5000)

    def test_bound(self) -> None:
        """However many there are, so many are listed."""
        for number in range(MAX_SESSIONS + 5):
            self.clock.advance(1)
            self.application.connect(f"user{number}")
        self.page = self.operator()
        answer = self.page.ask("sessions")
        self.assertEqual(len(answer["sessions"]), MAX_SESSIONS)
        self.assertEqual(answer["matching"], MAX_SESSIONS + 6)

    def test_session(self) -> None:
        """One session is shown with what it has subscribed to."""
        answer = self.page.ask("session", session=session_of(self.alice))
        self.assertEqual(
            answer["destinations"],
            [{"id": "a", "destination": "/topic/rooms/lobby", "ack": "auto", "unacked": 0}],
        )
        unknown = self.page.ask("session", session="x")
        self.assertEqual(unknown, {"error": "unknown-session"})

    def test_queues(self) -> None:
        """The deepest queues come first; a part of a name finds them; so many are listed."""
        for number in range(MAX_QUEUES + 2):
            for _ in range(1 + number % 3):
                self.alice.send("SEND", b"x", destination=f"/queue/work/{number}")
            self.clock.advance(1)
        self.page = self.operator()
        answer = self.page.ask("queues")
        self.assertEqual((len(answer["queues"]), answer["total"]), (MAX_QUEUES, MAX_QUEUES + 2))
        depths = [queue["messages"] for queue in answer["queues"]]
        self.assertEqual((depths, depths[0]), (sorted(depths, reverse=True), 3))
        (found,) = self.page.ask("queues", text="work/51")["queues"]
        self.assertEqual((found["name"], found["messages"]), ("/queue/work/51", 1))

    def test_end(self) -> None:
        """A session that an operator ends is told so, and the log says from where."""
        answer = self.page.ask("end", session=session_of(self.alice))
        self.assertEqual(answer, {"sessions": 1, "tickets": 0})
        self.assertEqual(self.alice.frame().headers["code"], "revoked")
        self.assertEqual(self.alice.close_code, 4403)
        self.assertEqual(
            self.page.ask("end", session=session_of(self.alice)), {"sessions": 0, "tickets": 0}
        )

    def test_revoke(self) -> None:
        """A revoked user is out, and stays out with the token that he has."""
        self.application.ticket()
        self.assertEqual(self.page.ask("revoke", user="alice"), {"sessions": 1, "tickets": 1})
        self.assertEqual(self.alice.close_code, 4403)
        self.assertEqual(post_token(self.application.site, token()).status, 403)

    def test_recheck(self) -> None:
        """A recheck asks the rules about all sessions of the user."""
        self.assertEqual(self.page.ask("recheck", user="alice"), {"sessions": 1})

    def test_unavailable(self) -> None:
        """What could not be done whole is said to be so."""
        self.patch(self.application.stompauth, "revoke", lambda **_: fail(Unavailable("x", 1)))
        self.assertEqual(self.page.ask("revoke", user="alice"), {"error": "unavailable"})

    def test_operators_are_no_sessions(self) -> None:
        """Operators are not in the list, and cannot be ended as if they were."""
        answer = self.page.ask("end", session=session_of(self.page))
        self.assertEqual(answer["sessions"], 0)
        self.assertIsNone(self.page.close_code)


class LookingOnTests(PageCase):
    """Reports come while somebody looks on, and nothing is done while nobody does."""

    def test_idle(self) -> None:
        """Without an operator there is no timer, and no observer of the log."""
        calls, observers = self.clock.getDelayedCalls(), list(globalLogPublisher._observers)
        one, two = self.operator(), self.operator()
        self.assertNotEqual(globalLogPublisher._observers, observers)
        one.websocket.socket.lose()
        self.assertNotEqual(globalLogPublisher._observers, observers)
        two.send("UNSUBSCRIBE", id="live")
        self.assertEqual(globalLogPublisher._observers, observers)
        two.websocket.socket.lose()
        self.assertEqual(self.clock.getDelayedCalls(), calls)

    def test_reports(self) -> None:
        """Every second each of them is told what there is, and what has been denied."""
        one, two = self.operator(), self.operator()
        alice = self.application.connect()
        alice.send("SUBSCRIBE", id="a", destination="/topic/secret")
        self.clock.advance(1)
        for page in (one, two):
            page.read()
            (live,) = page.live
            self.assertEqual(live["sessions"], 0)
            self.assertTrue(live["changed"])
            (denied,) = [event for event in live["events"] if event["denial"]]
            self.assertRegex(denied["text"], "alice may not subscribe /topic/secret: no rule")
        self.clock.advance(1)
        one.read()
        self.assertEqual((one.live[1]["events"], one.live[1]["changed"]), ([], False))

    def test_tracing_ends_with_the_operator(self) -> None:
        """What an operator has begun to trace is traced no more when he has gone."""
        alice = self.application.connect()
        (session,) = self.application.stompauth.sessions
        shared = session.chain
        page = self.operator()
        answer = page.ask("trace", session=session_of(alice))
        self.assertEqual(answer["user"], "alice")
        self.assertIsNot(session.chain, shared)
        alice.send("SEND", b"hidden", destination="/queue/work/1", note="shown")
        self.clock.advance(1)
        page.read()
        (frame,) = page.traced[0]["frames"]
        self.assertEqual((frame["command"], frame["outcome"]), ("SEND", "done"))
        self.assertNotIn("hidden", repr(page.traced))
        page.websocket.socket.lose()
        self.assertIs(session.chain, shared)

    def test_untrace(self) -> None:
        """He may have enough before."""
        alice = self.application.connect()
        (session,) = self.application.stompauth.sessions
        shared = session.chain
        page = self.operator()
        page.ask("trace", session=session_of(alice))
        self.assertEqual(page.ask("untrace"), {})
        self.assertIs(session.chain, shared)
        self.assertEqual(page.ask("trace", session="x"), {"error": "unknown-session"})


class HowtoTests(PageCase):
    """docs/howto/operations-page.md."""

    def test_bounds(self) -> None:
        """It has the bounds as they are."""
        text = " ".join(HOWTO.read_text("utf-8").split())
        self.assertIn("A hundred are listed", text)
        self.assertEqual(MAX_SESSIONS, 100)
        self.assertIn("the fifty deepest", text)
        self.assertEqual(MAX_QUEUES, 50)
        self.assertIn("Fifty a second are shown", text)
        self.assertEqual(watch.MAX_EVENTS, 50)
        self.assertIn(f"after {tracing.MAX_FRAMES} frames", text)
        self.assertIn(f"{tracing.MAX_SECONDS // 60} minutes", text)
        self.assertIn(f"cut at {tracing.MAX_VALUE} characters", text)
        self.assertIn("Twenty operators", text)
        self.assertEqual(MAX_OPERATORS, 20)
        self.assertIn("After an hour it asks again", text)
        self.assertEqual(LIFETIME, 3600)

    def test_example(self) -> None:
        """Its example serves the page, and runs what it needs."""
        (code,) = re.findall(r"^```python\n(.*?)^```", HOWTO.read_text("utf-8"), re.M | re.S)
        names = {
            "app": self.application.stompauth,
            "token": TOKEN,
            "reactor": self.clock,
            "existing_service": MultiService(),
        }
        exec(compile(code, str(HOWTO), "exec"), names)
        self.site = names["site"]
        head = ["GET / HTTP/1.1", "Host: x"]
        self.assertIn(b"operations", request(self.site, head).body)
        services = names["existing_service"]
        services.startService()
        self.addCleanup(services.stopService)
        self.assertEqual(len(list(IServiceCollection(services))), 1)
        self.assertEqual(self.operator().ask("recheck", user="alice"), {"sessions": 0})
