"""Tests of stompauth.fastio.front."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from stompauth.fastio import output
from stompauth.fastio.front import Front, FrontSite, send
from stompauth.fastio.protocol import FastWebSocketProtocol
from stompauth.handshake.site import StrictHTTPChannel
from stompauth.interfaces import ITicketStore
from stompauth.settings import TicketSettings
from stompauth.tickets.grant import TicketGrant
from tests.applications import Application, token
from tests.wire import KEY, Socket, client_frame, read_frame, read_response

UPGRADE = (
    "Host: chat.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
    "Origin: https://chat.example.com",
)
POST = "POST /authenticate/token HTTP/1.1"
GET = "GET /stomp?ticket={ticket} HTTP/1.1"


def octets(*lines: str) -> bytes:
    """The head of a request."""
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class FrontCase(SynchronousTestCase):
    """An application behind two sites, of which one answers by twisted.web alone."""

    def setUp(self) -> None:
        self.make()

    def make(self, **settings: Any) -> None:
        self.application = Application(
            fast_io=True, ticket=TicketSettings(rate=0, failures_per_address=0), **settings
        )
        resources = self.application.stompauth.resources()
        clock = self.application.clock
        self.site = FrontSite(resources, clock, fast_io=True)
        self.web = FrontSite(resources, clock, fast_io=False)

    def request(self, *lines: str) -> bytes:
        """A request, with a ticket where there has to be one."""
        text = "\n".join(lines)
        if "{ticket}" in text:
            text = text.replace("{ticket}", self.application.ticket())
        return octets(*text.replace("{token}", token()).split("\n"))

    def post(self, *headers: str) -> bytes:
        return self.request(
            POST, "Host: chat.example.com", "Authorization: Bearer {token}", *headers
        )

    def answers(self, site: FrontSite, *pieces: bytes) -> list[object]:
        """What comes back, without what differs each time, and whether that is the end."""
        socket = Socket(site)
        for piece in pieces:
            if not socket.lost:
                socket.send(piece)
        data = socket.taken()
        seen: list[object] = []
        while data:
            response, data = read_response(data)
            headers = {name: value for name, value in response.headers.items() if name != "date"}
            body = "" if response.status == 200 else response.body
            seen.append((response.status, response.reason, headers, body))
            if response.status == 101:
                break
        seen.append(socket.lost)
        if not socket.lost:
            socket.lose()
        return seen

    def is_taken(self, data: bytes) -> bool:
        """Whether twisted.web never sees it."""
        channels = []
        make_channel = self.site.make_channel

        def made(*arguments: Any) -> Any:
            channels.append(arguments)
            return make_channel(*arguments)

        self.patch(self.site, "make_channel", made)
        socket = Socket(self.site)
        socket.send(data)
        if not socket.lost:
            socket.lose()
        return not channels


class SameTests(FrontCase):
    """What a client gets does not depend on who reads its request."""

    def assert_same(self, make: Any, *cuts: int) -> list[object]:
        """Send it to both sites, in pieces; each time it is made anew, since tickets are."""
        seen = []
        for site in (self.site, self.web):
            data: bytes = make()
            pieces = [data[a:b] for a, b in zip((0, *cuts), (*cuts, len(data)), strict=True)]
            seen.append(self.answers(site, *[piece for piece in pieces if piece]))
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(self.application.stompauth._connections.total, 0)
        return seen[0]

    def test_upgrade(self) -> None:
        """A WebSocket is opened with the same answer, and without twisted.web."""
        lines = (GET, *UPGRADE, "Sec-WebSocket-Protocol: chat, v11.stomp, v12.stomp")
        (answer, _) = self.assert_same(lambda: self.request(*lines))
        self.assertEqual(answer[0], 101)  # type: ignore[index]
        self.assertEqual(answer[2]["sec-websocket-protocol"], "v11.stomp")  # type: ignore[index]
        self.assertTrue(self.is_taken(self.request(*lines)))

    def test_ticket(self) -> None:
        """A ticket is given with the same answer, and without twisted.web but for what follows."""
        for connection, ends in (
            ("close", True),
            ("Close", True),
            ("keep-alive", False),
            ("keep-alive, close", True),
            ("close\nConnection: keep-alive", True),
        ):
            header = f"Connection: {connection}"
            (answer, is_over) = self.assert_same(lambda header=header: self.post(header))
            self.assertEqual((answer[0], is_over), (200, ends))  # type: ignore[index]
        self.assertTrue(self.is_taken(self.post("Connection: close")))

    def test_refused_tickets(self) -> None:
        """Refusals read the same: a bad token, none, a foreign origin."""
        for headers in (
            ("Authorization: Bearer x.y.z",),
            (),
            ("Authorization: Basic x",),
            ("Authorization: Bearer {token}", "Authorization: Bearer {token}"),
            ("Authorization: Bearer {token}", "Origin: https://evil.example"),
            ("Authorization: Bearer {token}", "Origin: https://chat.example.com"),
        ):
            self.assert_same(lambda lines=(POST, "Host: x", *headers): self.request(*lines))
        self.application.stompauth._connections.is_stopping = True
        self.assert_same(self.post)

    def test_cut_anywhere(self) -> None:
        """Wherever TCP cuts a request, the answer is the same."""
        lines = (GET, *UPGRADE)
        for make, status in ((lambda: self.request(*lines), 101), (self.post, 200)):
            whole = len(make())
            for cut in range(1, whole):
                (answer, _) = self.assert_same(make, cut)
                self.assertEqual(answer[0], status)  # type: ignore[index]

    def test_one_octet_at_a_time(self) -> None:
        """Nor does it matter that every octet comes alone."""
        self.assert_same(self.post, *range(1, len(self.post())))

    @settings(deadline=None, max_examples=150)
    @given(
        line=st.sampled_from(
            [
                GET,
                POST,
                "GET /stomp HTTP/1.1",
                "GET /stomp?ticket= HTTP/1.1",
                "GET /stomp?ticket={ticket}&x=1 HTTP/1.1",
                "GET /stomp/x?ticket={ticket} HTTP/1.1",
                "GET http://chat.example.com/stomp?ticket={ticket} HTTP/1.1",
                "GET /stomp?ticket={ticket} HTTP/1.0",
                "get /stomp?ticket={ticket} HTTP/1.1",
                "HEAD /stomp?ticket={ticket} HTTP/1.1",
                "POST /stomp?ticket={ticket} HTTP/1.1",
                "POST /authenticate/token?x HTTP/1.1",
                "GET /authenticate/token HTTP/1.1",
                "OPTIONS /authenticate/token HTTP/1.1",
                "GET /authenticate HTTP/1.1",
                "GET * HTTP/1.1",
                "",
            ]
        ),
        headers=st.permutations(
            [*UPGRADE, "Authorization: Bearer {token}", "X-Forwarded-For: 192.0.2.9"]
        ),
        extra=st.lists(
            st.sampled_from(
                [
                    "Host: other.example",
                    "Connection: close",
                    "Content-Length: 0",
                    "Content-Length: 3",
                    "Content-Length: +0",
                    "Transfer-Encoding: chunked",
                    "Expect: 100-continue",
                    " folded",
                    "no colon",
                    "X: a\x0bb",
                    "X: a\x85b",
                    "X: \0",
                    "X: a\nY: b",
                    "X: a\rY: b",
                    "Name : x",
                    "Sec-WebSocket-Version: 13",
                    "Sec-WebSocket-Protocol: a,,b,,c",
                    "Sec-WebSocket-Protocol: v12.stomp",
                    f"sec-websocket-key: {KEY}",
                    "Origin: null",
                    "upgrade:\tWEBSOCKET",
                ]
            ),
            max_size=2,
        ),
        left_out=st.integers(0, 12),
        behind=st.sampled_from([b"", b"", b"x", b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]),
        cuts=st.lists(st.integers(1, 80), max_size=2),
    )
    def test_any(
        self,
        line: str,
        headers: list[str],
        extra: list[str],
        left_out: int,
        behind: bytes,
        cuts: list[int],
    ) -> None:
        """TK-17: so it is with everything that a request may be wrong about."""
        lines = [line, *headers[:left_out], *headers[left_out + 1 :], *extra]
        self.assert_same(lambda: self.request(*lines) + behind, *sorted(cuts))


class FrontTests(FrontCase):
    """A connection is the right thing's from the start, and nobody's for long."""

    def test_second_request(self) -> None:
        """TK-17: what stands behind a request is never taken for a part of the WebSocket."""
        data = self.request(GET, *UPGRADE)
        self.assertFalse(self.is_taken(data + data))
        ticket = self.post()
        self.assertEqual(len(self.answers(self.site, ticket + ticket)), 3)
        self.assertEqual(len(self.answers(self.site, ticket, ticket, ticket)), 4)

    def test_messages_follow(self) -> None:
        """What comes after the answer is of the WebSocket."""
        socket = Socket(self.site)
        socket.send(self.request(GET, *UPGRADE))
        self.assertIsInstance(socket.transport.protocol, FastWebSocketProtocol)
        socket.send(client_frame(9, b"hello"))
        _, rest = read_response(socket.taken())
        self.assertEqual(read_frame(rest), (10, b"hello", b""))
        socket.lose()

    def test_silence(self) -> None:
        """RS-5: who connects and says nothing is hung up on, as ever."""
        socket = Socket(self.site)
        self.application.clock.advance(9)
        self.assertFalse(socket.transport.disconnecting)
        self.application.clock.advance(1)
        self.assertTrue(socket.transport.disconnecting)
        socket.lose()
        self.assertEqual(self.application.clock.getDelayedCalls(), [])

    def test_drip(self) -> None:
        """HS-6: an octet a second does not extend the time for a whole request."""
        socket = Socket(self.site)
        for octet in self.request(GET, *UPGRADE)[:9]:
            socket.send(bytes([octet]))
            self.application.clock.advance(1)
        self.assertFalse(socket.transport.disconnecting)
        self.assertIsInstance(socket.transport.protocol, StrictHTTPChannel)
        self.application.clock.advance(1)
        self.assertTrue(socket.transport.disconnecting)
        socket.lose()

    def test_places(self) -> None:
        """HS-7: a socket has one place among those of HTTP, until it ends or is a WebSocket."""
        self.site.replace_limits(10, 1, 0)
        for _ in range(3):
            silent = Socket(self.site)
            self.assertIsNone(self.site.buildProtocol(None))
            silent.lose()
            dripping = Socket(self.site)
            dripping.send(b"GET /")
            self.assertIsNone(self.site.buildProtocol(None))
            dripping.lose()
            self.answers(self.site, self.post("Connection: close"))
            self.answers(self.site, self.post())
            websocket = Socket(self.site)
            websocket.send(self.request(GET, *UPGRADE))
            self.assertEqual(len(self.site._connections), 0)
            websocket.lose()
        self.assertEqual(len(self.site._connections), 0)

    def test_wrapped(self) -> None:
        """Behind TLS or the PROXY protocol the connection is handed on within the wrapper."""
        factory = WrappingFactory(self.site)
        for data, kind in (
            (self.request(GET, *UPGRADE), FastWebSocketProtocol),
            (b"GET / HT", StrictHTTPChannel),
        ):
            socket = Socket(self.site)
            wrapper = ProtocolWrapper(factory, self.site.buildProtocol(None))
            wrapper.makeConnection(socket.transport)
            wrapper.dataReceived(data)
            self.assertIsInstance(wrapper.wrappedProtocol, kind)
            wrapper.wrappedProtocol.connectionLost(None)

    def test_hangs_up(self) -> None:
        """RS-5: who has its answer, and does not go, is cut off; what it sends is not read."""
        socket = Socket(self.site, lingers=True)
        socket.send(self.post("Connection: close"))
        self.assertTrue(socket.transport.disconnecting)
        socket.taken()
        socket.send(self.post())
        self.assertEqual(socket.taken(), b"")
        self.application.clock.advance(15)
        self.assertTrue(socket.transport.aborted)
        socket.lose()
        self.assertEqual(self.application.clock.getDelayedCalls(), [])

    def test_off(self) -> None:
        """Without fast I/O every connection is twisted.web's."""
        self.assertIsInstance(self.web.buildProtocol(None), StrictHTTPChannel)
        self.assertIsInstance(self.site.buildProtocol(None), Front)


class Kernel:
    """A socket that takes so many octets at a time, and then none."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.taken = b""

    def send(self, data: bytes) -> int:
        if not self.takes:
            raise BlockingIOError
        taken, self.takes = data[: self.takes], 0
        self.taken += taken
        return len(taken)


class Server:
    """A transport like those of TCP."""

    TLS = False
    _tempDataLen = 0  # noqa: N815  # Twisted names it so

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.dataBuffer = b""

    def getHandle(self) -> Kernel:
        return self.kernel

    def write(self, data: bytes) -> None:
        self.dataBuffer += data


class SendTests(SynchronousTestCase):
    """An answer goes to the socket at once, where that is right."""

    def setUp(self) -> None:
        self.patch(output, "_DIRECT", (Server,))

    def test_all(self) -> None:
        """What the kernel takes is gone."""
        server = Server(Kernel(100))
        self.assertTrue(send(server, b"hello"))
        self.assertEqual((server.kernel.taken, server.dataBuffer), (b"hello", b""))

    def test_part(self) -> None:
        """What it does not take is the transport's to write, and is not gone."""
        for takes in (0, 3):
            server = Server(Kernel(takes))
            self.assertFalse(send(server, b"hello"))
            self.assertEqual(server.kernel.taken + server.dataBuffer, b"hello")

    def test_order(self) -> None:
        """Nothing overtakes what waits already."""
        server = Server(Kernel(100))
        server.write(b"first ")
        self.assertFalse(send(server, b"then"))
        self.assertEqual((server.kernel.taken, server.dataBuffer), (b"", b"first then"))

    def test_tls(self) -> None:
        """Nothing goes past TLS."""
        server = Server(Kernel(100))
        server.TLS = True
        self.assertFalse(send(server, b"hello"))
        self.assertEqual((server.kernel.taken, server.dataBuffer), (b"", b"hello"))


@implementer(ITicketStore)
class HeldStore:
    """A ticket store that answers when it is told to, as one across a network may."""

    def __init__(self) -> None:
        self.answers: list[Deferred[Any]] = []
        self.cancelled = 0

    def _wait(self) -> Deferred[Any]:
        def cancelled(deferred: Deferred[Any]) -> None:
            self.cancelled += 1

        self.answers.append(Deferred(cancelled))
        return self.answers[-1]

    def issue(self, grant: TicketGrant, ttl: float) -> Deferred[str]:
        return self._wait()

    def redeem(self, ticket: str) -> Deferred[TicketGrant]:
        return self._wait()

    def revoke(self, issuer: str | None, user: str) -> Deferred[int]:
        return succeed(0)


class WaitingTests(FrontCase):
    """An answer may take its time."""

    def setUp(self) -> None:
        self.store = HeldStore()
        self.make(tickets=self.store)
        self.socket = Socket(self.site)
        self.calls: list[str] = []
        transport: Any = self.socket.transport
        for name in ("pauseProducing", "resumeProducing"):
            self.patch(transport, name, lambda name=name: self.calls.append(name))

    def test_waits(self) -> None:
        """Reading is paused meanwhile; what comes all the same is looked at later."""
        self.socket.send(self.post())
        self.assertEqual(self.calls, ["pauseProducing"])
        self.socket.send(self.post()[:20])
        self.socket.send(self.post()[20:])
        self.assertEqual(self.socket.taken(), b"")
        self.store.answers[0].callback("first")
        response, rest = read_response(self.socket.taken())
        self.assertEqual((response.json["ticket"], rest), ("first", b""))
        self.assertIn("resumeProducing", self.calls)
        self.store.answers[1].callback("second")
        response, _ = read_response(self.socket.taken())
        self.assertEqual(response.json["ticket"], "second")
        self.socket.lose()

    def test_client_leaves(self) -> None:
        """For a client that has left, nothing is waited for."""
        self.socket.send(self.post())
        self.socket.lose()
        self.assertEqual(self.store.cancelled, 1)
        self.assertEqual(self.socket.taken(), b"")
        self.assertEqual(self.application.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.site._connections), 0)

    def test_upgrade_waits(self) -> None:
        """A handshake that waits is bounded in time, and lets nobody speak before its answer."""
        ticket = "x" * 43
        head = self.request(GET.replace("{ticket}", ticket), *UPGRADE)
        self.socket.send(head)
        self.assertEqual(self.socket.taken(), b"")
        self.application.clock.advance(5)
        self.assertTrue(self.socket.transport.disconnecting)
        self.socket.lose()
        hasty = Socket(self.site)
        hasty.send(head)
        hasty.send(b"x")
        self.assertTrue(hasty.transport.disconnecting)
        self.assertEqual(self.application.stompauth._connections.total, 0)
