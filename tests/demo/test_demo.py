"""The demo's server side."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.destination import Destination
from stompauth.demo.demo import (
    ROOMS,
    PageResource,
    Stompjs,
    TokenIssuer,
    demo_rules,
    make_demo_service,
)
from stompauth.errors import BadToken, ConfigError
from stompauth.handshake.site import PathRouter, StrictSite
from tests.applications import StompClient
from tests.wire import Response, WebSocket, post_token, request

if TYPE_CHECKING:
    from twisted.web.server import Site

    from stompauth.identity.principal import Principal

NOW = 1_750_000_000.0
ORIGIN = "http://127.0.0.1:8080"
STATIC = Path(__file__).parents[2] / "stompauth/demo/static"


class Demo:
    """The demo, started on a reactor in memory."""

    def __init__(self, *listen: str) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(NOW)
        make_demo_service(listen or None, self.reactor).startService()

    @property
    def site(self) -> Site:
        """What listens."""
        site: Site = self.reactor.tcpServers[0][1]
        return site

    def get(self, path: str, method: str = "GET") -> Response:
        """Ask for something of the page."""
        return request(self.site, [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1:8080"])

    def sign_in(self, body: object, origin: str | None = ORIGIN, method: str = "POST") -> Response:
        """Ask for a token."""
        octets = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = [f"{method} /demo/sign-in HTTP/1.1", "Host: 127.0.0.1:8080"]
        head += ["Content-Type: application/json", f"Content-Length: {len(octets)}"]
        if origin is not None:
            head.append(f"Origin: {origin}")
        return request(self.site, head, octets)

    def token(self, user: str) -> str:
        """Sign in."""
        token: str = self.sign_in({"user": user}).json["token"]
        return token

    def ticket_status(self, origin: str) -> int:
        """The status of a page's request for a ticket."""
        return post_token(self.site, self.token("alice"), origin).status

    def connect(self, user: str) -> StompClient:
        """Do what the page does, up to CONNECTED."""
        token = self.token(user)
        ticket = post_token(self.site, token, ORIGIN).json["ticket"]
        client = StompClient(WebSocket(self.site, f"/stomp?ticket={ticket}", ORIGIN))
        client.connect(token)
        return client


class Tags(HTMLParser):
    """The attributes of every tag of a page, and the text within its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str]] = []
        self.inline = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            self.inline += data


class PageTests(SynchronousTestCase):
    """What a browser loads."""

    def test_page(self) -> None:
        """The page is at the root, as HTML in UTF-8."""
        page = Demo().get("/")
        self.assertEqual(page.status, 200)
        self.assertEqual(page.headers["content-type"], "text/html; charset=utf-8")
        self.assertEqual(page.body, (STATIC / "index.html").read_bytes())

    def test_files(self) -> None:
        """Every file of the page is served, as what it is."""
        demo = Demo()
        kinds = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
        for file in STATIC.iterdir():
            answer = demo.get(f"/{file.name}")
            self.assertEqual((answer.status, answer.body), (200, file.read_bytes()))
            kind = answer.headers["content-type"].partition(";")[0]
            self.assertEqual(kind, kinds.get(file.suffix, "image/svg+xml"))

    def test_headers(self) -> None:
        """The page may load nothing from elsewhere, runs no script of its own text, and is not
        framed, sniffed or told to others."""
        headers = Demo().get("/").headers
        policy = dict(
            directive.strip().split(" ", 1)
            for directive in headers["content-security-policy"].split(";")
        )
        self.assertEqual(policy["default-src"], "'self'")
        self.assertEqual(policy["connect-src"], "'self' ws:")
        self.assertEqual(policy["frame-ancestors"], "'none'")
        self.assertNotIn("script-src", policy)
        self.assertNotIn("unsafe", headers["content-security-policy"])
        self.assertEqual(headers["x-content-type-options"], "nosniff")
        self.assertEqual(headers["referrer-policy"], "no-referrer")

    def test_nothing_inline(self) -> None:
        """The page keeps to its policy: no script, handler or style in it, no address elsewhere."""
        tags = Tags((STATIC / "index.html").read_text("utf-8"))
        self.assertEqual(tags.inline, "")
        for name, value in tags.attributes:
            self.assertFalse(name.startswith("on") or name == "style", name)
            if name in ("src", "href"):
                self.assertRegex(value, r"^/[^/]")

    def test_nothing_from_elsewhere(self) -> None:
        """No script or style names another host."""
        for file in STATIC.iterdir():
            text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
            self.assertIsNone(re.search(r"(https?|wss?)://\w|@import|url\(", text), file.name)

    def test_head(self) -> None:
        """HEAD has the headers of GET, and no body."""
        demo = Demo()
        answer = demo.get("/", "HEAD")
        self.assertEqual((answer.status, answer.body), (200, b""))
        length = (STATIC / "index.html").stat().st_size
        self.assertEqual(answer.headers["content-length"], str(length))

    def test_method(self) -> None:
        """Nothing else can be done with a file."""
        answer = Demo().get("/chat.js", "DELETE")
        self.assertEqual((answer.status, answer.json), (405, {"error": "method"}))
        self.assertEqual(answer.headers["allow"], "GET, HEAD")

    def test_other_paths(self) -> None:
        """Only the page's own files are there, under exactly their names."""
        demo = Demo()
        for path in ("/demo.py", "/../demo.py", "/static/chat.js", "/chat.js/", "//", "/%2e%2e/x"):
            self.assertEqual(demo.get(path).status, 404, path)


class StompjsTests(SynchronousTestCase):
    """stompjs comes from where npm puts it."""

    def setUp(self) -> None:
        self.home = Path(self.mktemp())
        self.above = Path(self.mktemp())
        self.stompjs = Stompjs(self.home, [self.home, self.above])
        resource = PageResource(self.stompjs.content, "default-src 'self'")
        self.site = StrictSite(PathRouter({b"/stomp.js": resource}), MemoryReactorClock())

    def install(self, folder: Path) -> None:
        """Do as npm does."""
        file = folder / "node_modules/@stomp/stompjs/bundles/stomp.umd.min.js"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"// of " + folder.name.encode())

    def get(self) -> Response:
        """Ask for it as the page does."""
        return request(self.site, ["GET /stomp.js HTTP/1.1", "Host: 127.0.0.1:8080"])

    def test_missing(self) -> None:
        """Where it is missing, page and log say what to type, and where."""
        answer = self.get()
        self.assertEqual(answer.status, 404)
        self.assertEqual(answer.headers["content-type"], "text/plain; charset=utf-8")
        advice = f"run `npm install @stomp/stompjs` in {self.home}"
        self.assertIn(advice, answer.body.decode())
        with capturedLogs() as events:
            self.stompjs.warn_if_missing()
        self.assertEqual(
            [(event["log_level"], advice in event["advice"]) for event in events],
            [(LogLevel.warn, True)],
        )

    def test_installed_later(self) -> None:
        """Once it is installed a reload of the page is enough."""
        self.assertEqual(self.get().status, 404)
        self.install(self.home)
        answer = self.get()
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["content-type"], "text/javascript; charset=utf-8")
        with capturedLogs() as events:
            self.stompjs.warn_if_missing()
        self.assertEqual(events, [])

    def test_nearest(self) -> None:
        """Of several the first folder's is taken."""
        self.install(self.above)
        self.assertEqual(self.get().body, b"// of " + self.above.name.encode())
        self.install(self.home)
        self.assertEqual(self.get().body, b"// of " + self.home.name.encode())


class SignInTests(SynchronousTestCase):
    """The login without passwords."""

    def test_token(self) -> None:
        """A user gets a token for a few minutes, which trades for a ticket."""
        demo = Demo()
        answer = demo.sign_in({"user": "alice"})
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json.keys(), {"token"})
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(post_token(demo.site, answer.json["token"], ORIGIN).status, 200)

    def test_other_server(self) -> None:
        """The key is made at start: what one server has signed is nothing to the next."""
        token = Demo().token("alice")
        self.assertEqual(post_token(Demo().site, token, ORIGIN).status, 401)

    def test_expiry(self) -> None:
        """After five minutes, and the leeway, a token is over."""
        demo = Demo()
        token = demo.token("alice")
        demo.reactor.advance(299)
        self.assertEqual(post_token(demo.site, token, ORIGIN).status, 200)
        demo.reactor.advance(12)
        self.assertEqual(post_token(demo.site, token, ORIGIN).status, 401)

    def test_without_origin(self) -> None:
        """A client that is no browser may sign in."""
        self.assertEqual(Demo().sign_in({"user": "bob"}, origin=None).status, 200)

    def test_foreign_origin(self) -> None:
        """No other page gets a token, whatever it resembles."""
        demo = Demo()
        for origin in (
            "http://127.0.0.1:8081",
            "https://127.0.0.1:8080",
            "http://127.0.0.1",
            "http://evil.example:8080",
            "null",
        ):
            answer = demo.sign_in({"user": "alice"}, origin)
            self.assertEqual((answer.status, answer.json), (403, {"error": "origin"}), origin)

    def test_unknown_user(self) -> None:
        """Only the made-up users can sign in; anything else is a bad request."""
        demo = Demo()
        for body in ({"user": "mallory"}, {"user": ["alice"]}, {"user": None}, {}, [], "alice"):
            answer = demo.sign_in(body)
            self.assertEqual((answer.status, answer.json), (400, {"error": "unknown-user"}), body)

    def test_malformed(self) -> None:
        """A body that is not JSON is a bad request, however it is not."""
        demo = Demo()
        for body in (b"", b"alice", b"\xff", b"[" * 8000):
            answer = demo.sign_in(body)
            self.assertEqual((answer.status, answer.json), (400, {"error": "malformed"}))

    def test_too_large(self) -> None:
        """A long body is not read."""
        answer = Demo().sign_in(b" " * 10_000)
        self.assertEqual((answer.status, answer.json), (413, {"error": "too-large"}))

    def test_method(self) -> None:
        """It is POST or nothing."""
        answer = Demo().sign_in({"user": "alice"}, method="PUT")
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "POST"))


class ListenTests(SynchronousTestCase):
    """Who can reach the demo."""

    def test_default(self) -> None:
        """By default it listens on 127.0.0.1:8080."""
        ((port, _, _, interface),) = Demo().reactor.tcpServers
        self.assertEqual((port, interface), (8080, "127.0.0.1"))

    def test_loopback_only(self) -> None:
        """Anything but TCP on loopback is refused, and all of it at once."""
        bad = [
            "tcp:8080",
            "tcp:8080:interface=0.0.0.0",
            "tcp:8080:interface=192.0.2.1",
            "tcp6:8080",
            "unix:/run/demo",
            "haproxy:tcp:8080:interface=127.0.0.1",
            "8080",
        ]
        listen = [*bad, "tcp:8080:interface=127.0.0.1"]
        error = self.assertRaises(ConfigError, make_demo_service, listen, MemoryReactorClock())
        self.assertEqual([mistake.path for mistake in error.mistakes], ["listen"] * len(bad))
        for mistake, endpoint in zip(error.mistakes, bad, strict=True):
            self.assertIn(endpoint, mistake.text)

    def test_origins(self) -> None:
        """The pages of the port that is listened on may connect, under both names, no others."""
        demo = Demo("tcp:8123:interface=127.0.0.1")
        token = demo.sign_in({"user": "alice"}, origin=None).json["token"]
        statuses = {
            origin: post_token(demo.site, token, origin).status
            for origin in (
                "http://127.0.0.1:8123",
                "http://localhost:8123",
                "http://127.0.0.1:8080",
                "http://[::1]:8123",
            )
        }
        self.assertEqual(list(statuses.values()), [200, 200, 403, 403])

    def test_default_port_of_http(self) -> None:
        """A browser leaves port 80 out of the origin."""
        demo = Demo("tcp:80:interface=127.0.0.1")
        self.assertEqual(demo.sign_in({"user": "alice"}, "http://localhost").status, 200)

    def test_ipv6(self) -> None:
        """On ::1 the page's origin is in brackets."""
        demo = Demo(r"tcp:8080:interface=\:\:1")
        self.assertEqual(demo.sign_in({"user": "alice"}, "http://[::1]:8080").status, 200)


class RulesTests(SynchronousTestCase):
    """What the users may do."""

    def principal(self, user: str) -> Principal:
        """The user, as the token says."""
        issuer = TokenIssuer(MemoryReactorClock())
        principal: Principal = self.successResultOf(issuer.verifier().verify(issuer.token(user)))
        return principal

    def allowed(self, user: str, command: str, destination: str) -> bool:
        """Whether the rules let the user do that."""
        decision = demo_rules().check(self.principal(user), command, Destination.parse(destination))
        return decision.allowed

    def test_rooms(self) -> None:
        """Everybody is in the lobby; carol is not in the library; nobody is anywhere else."""
        for command in ("subscribe", "send"):
            for user, library in (("alice", True), ("bob", True), ("carol", False)):
                self.assertIs(self.allowed(user, command, "/topic/rooms/lobby"), True)
                self.assertIs(self.allowed(user, command, "/topic/rooms/library"), library)
                self.assertIs(self.allowed(user, command, "/topic/rooms/cellar"), False)

    def test_private(self) -> None:
        """Everybody reads only what is sent to him, and may write to everybody."""
        self.assertIs(self.allowed("carol", "subscribe", "/user/queue/private"), True)
        self.assertIs(self.allowed("carol", "send", "/user/alice/queue/private"), True)
        self.assertIs(self.allowed("carol", "send", "/user/alice/queue/other"), False)
        self.assertIs(self.allowed("carol", "subscribe", "/queue/private"), False)

    def test_users(self) -> None:
        """The users of the page are those that can sign in."""
        page = (STATIC / "index.html").read_text("utf-8")
        self.assertEqual(set(re.findall(r'data-user="(\w+)"', page)), set(ROOMS))

    def test_foreign_key(self) -> None:
        """Another key's tokens are no good."""
        clock = MemoryReactorClock()
        verified = TokenIssuer(clock).verifier().verify(TokenIssuer(clock).token("alice"))
        self.failureResultOf(verified, BadToken)


class ChatTests(SynchronousTestCase):
    """The whole way, as the page goes it."""

    def test_room(self) -> None:
        """A message to a room reaches its members, with the sender that the server vouches for."""
        demo = Demo()
        alice, bob = demo.connect("alice"), demo.connect("bob")
        bob.send("SUBSCRIBE", destination="/topic/rooms/library", id="1", receipt="r")
        self.assertEqual(bob.frame().headers["receipt-id"], "r")
        alice.send("SEND", b"hello", destination="/topic/rooms/library", sender="carol")
        message = bob.frame()
        self.assertEqual((message.body, message.headers["sender"]), (b"hello", "alice"))

    def test_private(self) -> None:
        """A private message reaches the one, and no other."""
        demo = Demo()
        alice, bob, carol = (demo.connect(user) for user in ROOMS)
        for client in (alice, bob, carol):
            client.send("SUBSCRIBE", destination="/user/queue/private", id="1")
        alice.send("SEND", b"psst", destination="/user/bob/queue/private")
        self.assertEqual(bob.frame().headers["sender"], "alice")
        self.assertEqual(alice.frames() + carol.frames(), [])

    def test_denial(self) -> None:
        """Carol is refused in the library, in the words that the page explains."""
        carol = Demo().connect("carol")
        carol.send("SUBSCRIBE", destination="/topic/rooms/library", id="1", receipt="r")
        error = carol.frame()
        self.assertEqual(error.headers["code"], "access-denied")
        self.assertEqual(error.headers["receipt-id"], "r")
        self.assertEqual(carol.close_code, 4403)
