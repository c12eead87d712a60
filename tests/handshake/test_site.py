"""Tests of stompauth.handshake.site."""

from __future__ import annotations

from io import BytesIO

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from stompauth.handshake.site import PathRouter, StrictSite
from tests.wire import Socket, read_response, request


class Echo(Resource):
    """Says what it got."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []

    def render(self, request: Request) -> bytes:
        self.requests.append(request)
        return b"too large" if request.body_too_large else request.content.read()


class Never(Resource):
    """Takes its time."""

    isLeaf = True

    def render(self, request: Request) -> int:
        return NOT_DONE_YET


class StrictSiteTests(SynchronousTestCase):
    """Requests are bounded in shape and in time, and leave no trace in a log."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.echo = Echo()
        routes = {b"/echo": self.echo, b"/never": Never()}
        self.site = StrictSite(PathRouter(routes), self.clock, http_timeout=10)
        self.socket = Socket(self.site)

    def send(self, *lines: str, body: bytes = b"") -> int:
        self.socket.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return read_response(self.socket.taken())[0].status

    def test_keep_alive(self) -> None:
        """Requests follow one another on a connection."""
        for _ in range(3):
            self.assertEqual(self.send("GET /echo HTTP/1.1", "Host: x"), 200)
        self.assertFalse(self.socket.lost)

    def test_too_many_connections(self) -> None:
        """HS-7: a connection too many is closed at accept; one that ends makes room."""
        site = StrictSite(
            PathRouter({b"/echo": self.echo}),
            self.clock,
            connections=3,
            connections_per_address=2,
        )
        held = [Socket(site) for _ in range(2)]
        peers = [IPv4Address("TCP", host, 1) for host in ("192.0.2.1", "192.0.2.2", "192.0.2.3")]
        self.assertIsNone(site.buildProtocol(peers[0]))
        other = site.buildProtocol(peers[1])
        self.assertIsNone(site.buildProtocol(peers[2]))
        held[0].lose()
        self.assertIsNotNone(site.buildProtocol(peers[0]))
        self.assertIsNotNone(other)

    def test_fallback(self) -> None:
        """What is at no path of its own goes to the fallback, which may be a leaf or not."""
        tree = Resource()
        tree.putChild(b"echo", self.echo)
        for fallback in (self.echo, tree):
            site = StrictSite(PathRouter({b"/else": Never()}, fallback), self.clock)
            response = request(site, ["GET /echo HTTP/1.1", "Host: x"])
            self.assertEqual((response.status, response.body), (200, b""))

    def test_replaced_limits(self) -> None:
        """Other limits hold for the sockets that come from then on."""
        site = StrictSite(PathRouter({b"/echo": self.echo}), self.clock, connections=1)
        held = Socket(site)
        peers = [IPv4Address("TCP", host, 1) for host in ("192.0.2.8", "192.0.2.9")]
        self.assertIsNone(site.buildProtocol(peers[0]))
        site.replace_limits(http_timeout=3, connections=3, connections_per_address=1)
        self.assertIsNotNone(site.buildProtocol(peers[0]))
        self.assertIsNone(site.buildProtocol(peers[0]))
        self.assertIsNotNone(site.buildProtocol(peers[1]))
        held.lose()
        socket = Socket(site)
        socket.send(b"GET /echo HTTP/1.1\r\nX: ")
        for _ in range(3):
            self.clock.advance(1)
            socket.send(b"y")
        socket.settle()
        self.assertTrue(socket.lost)

    def test_server_header(self) -> None:
        """TK-16: the Server header tells nothing of what we are made of."""
        self.socket.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        headers = read_response(self.socket.taken())[0].headers
        self.assertTrue(headers["server"].startswith("stompauth/"))

    def test_small_body(self) -> None:
        """A small body is read."""
        lines = ("POST /echo HTTP/1.1", "Host: x", "Content-Length: 5")
        self.assertEqual(self.send(*lines, body=b"hello"), 200)

    def test_large_body(self) -> None:
        """TK-15: a large body is not read, the resource is told, and the connection ends."""
        lines = ("POST /echo HTTP/1.1", "Host: x", "Content-Length: 999999999999")
        self.socket.send("\r\n".join([*lines, "", ""]).encode())
        response, _ = read_response(self.socket.taken())
        self.assertEqual(response.body, b"too large")
        self.assertTrue(self.socket.lost)

    def test_form_is_not_parsed(self) -> None:
        """TK-15: a form of any size makes no arguments."""
        form = b"a=1&" * 100_000
        head = (
            "POST /echo HTTP/1.1",
            "Host: x",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(form)}",
        )
        self.send(*head, body=form)
        self.assertEqual(len(self.echo.requests), 1)
        self.assertEqual(self.echo.requests[0].args, {})

    def test_small_form_is_not_parsed(self) -> None:
        """Nor does a small one: whoever wants a form reads it himself."""
        lines = ("POST /echo HTTP/1.1", "Host: x", "Content-Length: 3")
        for media_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
            self.assertEqual(self.send(*lines, f"Content-Type: {media_type}", body=b"a=1"), 200)
            self.assertEqual(self.echo.requests[-1].args, {})

    def test_size_of_a_body(self) -> None:
        """A site says how long a body may be."""
        self.site = StrictSite(PathRouter({b"/echo": self.echo}), self.clock, max_body=20_000)
        for length, body in ((20_000, b"x" * 20_000), (20_001, b"too large")):
            self.socket = Socket(self.site)
            head = f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"
            self.socket.send(head.encode() + b"x" * length)
            self.assertEqual(read_response(self.socket.taken())[0].body, body)
        self.assertTrue(self.socket.lost)

    def test_host_octets(self) -> None:
        """TK-17: a Host may be of octets that are not UTF-8; it raises nothing."""
        self.assertEqual(self.send("GET /echo HTTP/1.1", "Host: \xc3x"), 200)
        self.socket = Socket(self.site)
        self.assertEqual(self.send("GET /echo HTTP/1.1", "Host: \xc3x", "Host: \xc3x"), 400)

    def test_smuggling(self) -> None:
        """TK-17: whatever could be read as two requests is refused."""
        for lines in (
            ("POST /echo HTTP/1.1", "Host: x", "Content-Length: 1", "Transfer-Encoding: chunked"),
            ("POST /echo HTTP/1.1", "Host: x", "Content-Length: 1", "Content-Length: 2"),
            ("POST /echo HTTP/1.1", "Host: x", "Content-Length: +0"),
            ("POST /echo HTTP/1.1", "Host: x", "Transfer-Encoding : chunked"),
            ("POST /echo HTTP/1.1", "Host: x", "Transfer-Encoding: xchunked"),
            ("GET /echo HTTP/1.1", "Host: x", "X-Folded: a", " b"),
            ("GET /echo HTTP/1.1", "Host: x", "\tX: a"),
            ("GET /echo HTTP/1.1", "Host: x", "Host: y"),
            ("GET /echo HTTP/1.1",),
            ("GET /echo HTTP/1.1", "Host: x", "X: a\x00b"),
        ):
            self.socket = Socket(self.site)
            self.assertEqual(self.send(*lines), 400, lines)
            self.assertTrue(self.socket.lost, lines)
        self.assertEqual(self.echo.requests, [])

    def test_head_limits(self) -> None:
        """HS-6: a head has at most 16 KiB and 100 headers."""
        for lines in (["X: " + "y" * 17000], [f"X{n}: y" for n in range(101)]):
            self.socket = Socket(self.site)
            self.assertEqual(self.send("GET /echo HTTP/1.1", "Host: x", *lines), 400)

    def test_dribbling(self) -> None:
        """RS-5: a request that keeps coming octet by octet is cut off all the same."""
        self.socket.send(b"GET /echo HTTP/1.1\r\nX: ")
        for _ in range(9):
            self.clock.advance(1)
            self.socket.send(b"y")
        self.assertFalse(self.socket.lost)
        self.clock.advance(1)
        self.socket.settle()
        self.assertTrue(self.socket.lost)

    def test_dribbling_body(self) -> None:
        """RS-5: so is a body."""
        self.socket.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        for _ in range(10):
            self.clock.advance(1)
            self.socket.send(b"y")
        self.socket.settle()
        self.assertTrue(self.socket.lost)

    def test_idle(self) -> None:
        """RS-5: a connection that says nothing is ended."""
        self.clock.advance(10)
        self.socket.settle()
        self.assertTrue(self.socket.lost)

    def test_slow_answer(self) -> None:
        """The clock is on the request, not on the answer."""
        self.socket.send(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
        self.clock.advance(1000)
        self.socket.settle()
        self.assertFalse(self.socket.lost)

    def test_lingering(self) -> None:
        """RS-5: whoever does not let a connection end, as one can over TLS, is cut off."""
        self.socket.lose()
        for lines in (
            ("GET /echo HTTP/1.1", "Host: x", "Connection: close"),
            ("POST /echo HTTP/1.1", "Host: x", "Content-Length: 99999"),
            ("GET /echo HTTP/1.1",),
            ("GET /echo HTTP/1.1", "Host: x", "X-Folded: a", " b"),
        ):
            self.socket = Socket(self.site, lingers=True)
            self.send(*lines)
            self.assertFalse(self.socket.lost, lines)
            self.clock.pump([1] * 15)
            self.socket.settle()
            self.assertTrue(self.socket.lost, lines)
            self.assertEqual(self.clock.getDelayedCalls(), [], lines)

    def test_nothing_behind_the_end(self) -> None:
        """TK-17: what comes behind a refused request, as it can over TLS, reaches no resource."""
        self.socket = Socket(self.site, lingers=True)
        self.send("GET /echo HTTP/1.1", "Host: x", "X-Folded: a", " b")
        self.socket.send(b"X: y\r\n")
        self.socket.send(b"\r\n")
        self.socket.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(self.echo.requests, [])

    def test_no_file(self) -> None:
        """TK-15: no request makes a file, not even one with a body of unknown length."""
        contents: list[object] = []
        self.patch(self.echo, "render", lambda request: contents.append(request.content) or b"")
        for length in ("Transfer-Encoding: chunked", "Content-Length: 999999999999"):
            self.socket = Socket(self.site)
            self.send("POST /echo HTTP/1.1", "Host: x", length)
        self.assertEqual([type(content) for content in contents], [BytesIO, BytesIO])

    def test_timers_end(self) -> None:
        """RS-4: no timer outlives its connection."""
        self.socket.send(b"GET /e")
        self.socket.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_http2(self) -> None:
        """Over TLS nothing but HTTP/1.1 is agreed upon, as nothing else is spoken."""
        self.patch(http, "H2_ENABLED", True)
        self.assertEqual(self.site.acceptableProtocols(), [b"http/1.1"])

    def test_no_access_log(self) -> None:
        """LG-1: neither the query nor the Referer of a request is logged."""
        events: list[object] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.site.startFactory()
        self.addCleanup(self.site.stopFactory)
        self.send("GET /echo?ticket=secret HTTP/1.1", "Host: x", "Referer: http://x/?secret")
        self.assertNotIn("secret", repr(events))


class PathRouterTests(SynchronousTestCase):
    """A resource is at its path, and at no other spelling of it."""

    def setUp(self) -> None:
        self.site = StrictSite(PathRouter({b"/a/b": Echo()}), Clock())

    def status(self, target: str) -> int:
        socket = Socket(self.site)
        socket.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return read_response(socket.taken())[0].status

    def test_exact(self) -> None:
        """The path, with any query, is found."""
        self.assertEqual([self.status("/a/b"), self.status("/a/b?x=1")], [200, 200])

    def test_others(self) -> None:
        """Nothing is decoded, normalised or completed."""
        for target in ("/", "/a", "/a/b/", "/a//b", "/a/%62", "/a/./b", "/A/b", "http://x/a/b"):
            self.assertEqual(self.status(target), 404, target)

    def test_fallback(self) -> None:
        """What is at none of the paths goes to the fallback."""
        fallback = Resource()
        fallback.putChild(b"c", Echo())
        self.site = StrictSite(PathRouter({b"/a/b": Echo()}, fallback), Clock())
        self.assertEqual(
            [self.status("/c"), self.status("/a/b"), self.status("/d")], [200, 200, 404]
        )
