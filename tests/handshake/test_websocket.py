"""Tests of stompauth.handshake.websocket and stompauth.handshake.admission."""

from __future__ import annotations

from typing import Any

import txaio
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from stompauth.errors import Unavailable
from stompauth.handshake.admission import HandshakeRequest
from stompauth.handshake.responses import json_answer
from stompauth.handshake.site import PathRouter, StrictSite
from stompauth.handshake.websocket import FRAME_COST
from stompauth.interfaces import ITicketStore
from stompauth.logs import json_line
from stompauth.settings import Limits, TicketSettings, WebSocketSettings
from stompauth.tickets.grant import TicketGrant
from tests.applications import ISSUER, NOW, Application, token
from tests.wire import KEY, Socket, WebSocket, client_frame, read_response, request

GOOD = "https://chat.example.com"


@implementer(ITicketStore)
class HeldStore:
    """A ticket store that answers when it is told to, as one across a network may."""

    def __init__(self) -> None:
        self.answers: list[Deferred[TicketGrant]] = []

    def issue(self, grant: TicketGrant, ttl: float) -> Deferred[str]:
        return succeed("t" * 43)

    def redeem(self, ticket: str) -> Deferred[TicketGrant]:
        self.answers.append(Deferred())
        return self.answers[-1]

    def revoke(self, issuer: str | None, user: str) -> Deferred[int]:
        return succeed(0)


GRANT = TicketGrant(ISSUER, "alice", "/stomp", NOW + 3600, NOW)


class HandshakeTests(SynchronousTestCase):
    """No ticket, no socket; and a ticket is spent only by what comes after its take."""

    def setUp(self) -> None:
        self.application = Application()
        self.site = self.application.site

    def open(self, target: str | None = None, **arguments: Any) -> WebSocket:
        target = target or f"/stomp?ticket={self.application.ticket()}"
        return WebSocket(self.site, target, **arguments)

    def assert_denied(self, socket: WebSocket, status: int) -> None:
        assert socket.response is not None
        self.assertEqual((socket.status, socket.response.body), (status, b""))
        self.assertEqual(self.application.stompauth._connections.total, 0)

    def test_open(self) -> None:
        """A ticket opens a socket, whose accept key is that of RFC 6455 section 1.3."""
        socket = self.open()
        self.assertEqual(socket.status, 101)
        assert socket.response is not None
        self.assertEqual(
            socket.response.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        )
        self.assertNotIn("Autobahn", str(socket.response.headers))

    def test_one_answer_for_all_bad_tickets(self) -> None:
        """HS-3: missing, unknown, used and expired tickets get one and the same answer."""
        used, expired = self.application.ticket(), self.application.ticket("bob")
        self.open(f"/stomp?ticket={used}").socket.lose()
        self.application.clock.advance(30)
        targets = (
            "/stomp",
            "/stomp?",
            "/stomp?ticket=" + "x" * 43,
            f"/stomp?ticket={used}",
            f"/stomp?ticket={expired}",
        )
        sockets = [self.open(target) for target in targets]
        for socket in sockets:
            self.assert_denied(socket, 401)
        self.assertEqual(len({repr(socket.response) for socket in sockets}), 1)

    def test_ticket_exactly_once(self) -> None:
        """HS-2: anything but one plain ticket parameter is malformed, and burns nothing."""
        ticket = self.application.ticket()
        for query in (
            f"ticket={ticket}&ticket={ticket}",
            f"ticket={ticket}&x=1",
            f"x=1&ticket={ticket}",
            f"ticket={ticket};x=1",
            f"ticket={ticket}%20",
            f"ticket=%74{ticket[1:]}",
            f"Ticket={ticket}",
            f"ticket=+{ticket}",
            f"ticket={ticket}=",
            "ticket=",
            "ticket",
            "ticket=" + "x" * 21,
            "ticket=" + "x" * 129,
            "ticket=" + "\xe9" * 43,
        ):
            self.assert_denied(self.open(f"/stomp?{query}"), 400)
        self.assertEqual(self.open(f"/stomp?ticket={ticket}").status, 101)

    def test_order(self) -> None:
        """HS-1: method, path, version, head, origin, limits, then the ticket."""
        site = self.site
        head = ["Host: x", "Upgrade: websocket", "Connection: Upgrade"]
        self.assertEqual(request(site, ["POST /stomp HTTP/1.1", "Host: x"]).status, 405)
        for path in ("/stomp/", "/stomp/x", "/Stomp", "/%73tomp", "//stomp", "/stomp;x"):
            self.assert_denied_path(path)
        self.assertEqual(request(site, ["GET /stomp HTTP/1.1", *head]).status, 426)
        self.assert_denied(self.open("/stomp", version="8"), 426)
        self.assert_denied(self.open("/stomp", extra=("X: \x0b",), origin="https://evil"), 400)
        self.assert_denied(self.open("/stomp", origin="https://evil"), 403)
        self.assert_denied(self.open("/stomp?x"), 400)

    def assert_denied_path(self, path: str) -> None:
        self.assertEqual(self.open(path).status, 404)

    def test_early_denials_burn_nothing(self) -> None:
        """HS-1: what is wrong before the take leaves the ticket for a right handshake."""
        ticket = self.application.ticket()
        target = f"/stomp?ticket={ticket}"
        for arguments in (
            {"origin": "https://evil.example"},
            {"origin": None},
            {"origin": "null"},
            {"version": "8"},
            {"version": "x"},
            {"extra": ("Origin: https://chat.example.com",)},
            {"extra": ("X-Odd: a\x0bOrigin: https://chat.example.com",)},
            {"extra": ("Content-Length: 5",), "ahead": b"hello"},
        ):
            self.assertIn(self.open(target, **arguments).status, (400, 403, 426), arguments)
        self.assertEqual(self.open(target).status, 101)

    def test_method(self) -> None:
        """HS-3: other methods get 405 with what would do."""
        for method in ("POST", "PUT", "HEAD", "OPTIONS", "FOO"):
            response = request(self.site, [f"{method} /stomp HTTP/1.1", "Host: x"])
            self.assertEqual((response.status, response.headers["allow"]), (405, "GET"))

    def test_no_upgrade(self) -> None:
        """HS-3: a plain GET gets 426, and there is no status page that redirects."""
        response = request(self.site, ["GET /stomp?redirect=http://evil/ HTTP/1.1", "Host: x"])
        self.assertEqual((response.status, response.body), (426, b""))
        self.assertEqual(response.headers["sec-websocket-version"], "13")
        self.assertNotIn("location", response.headers)

    def test_malformed_heads(self) -> None:
        """HS-6: a head that is not RFC 6455's is malformed."""
        good = {
            "Host": "x",
            "Upgrade": "websocket",
            "Connection": "keep-alive, Upgrade",
            "Sec-WebSocket-Key": KEY,
            "Sec-WebSocket-Version": "13",
            "Origin": GOOD,
        }
        for name, value in (
            ("Connection", "close"),
            ("Sec-WebSocket-Key", "short"),
            ("Sec-WebSocket-Key", "x" * 24),
            ("Sec-WebSocket-Protocol", "v12.stomp, v12.stomp"),
            ("X-Bad", "\x01"),
            ("X-Bad", "\x85"),
            ("X-Bad", "\x1c"),
        ):
            head = [f"{n}: {v}" for n, v in {**good, name: value}.items()]
            self.assertEqual(request(self.site, ["GET /stomp HTTP/1.1", *head]).status, 400, name)
        head = [f"{name}: {value}" for name, value in good.items()]
        two_keys = [*head, f"Sec-WebSocket-Key: {KEY}"]
        self.assertEqual(request(self.site, ["GET /stomp HTTP/1.1", *two_keys]).status, 400)
        self.assertEqual(request(self.site, ["GET /stomp HTTP/1.0", *head]).status, 400)
        ticket = self.application.ticket()
        self.assertEqual(
            request(self.site, [f"GET /stomp?ticket={ticket} HTTP/1.1", *head]).status, 101
        )

    def test_cookies_are_nobodys_business(self) -> None:
        """What other headers say does not matter."""
        extra = ("Cookie: a=\xe4; b=c", "User-Agent: x", "Sec-WebSocket-Extensions: x; y=1")
        self.assertEqual(self.open(extra=extra).status, 101)

    def test_compression(self) -> None:
        """HS-10: compression is not to be had, whoever offers it, and breaks the connection."""
        for offer in ("permessage-deflate", "permessage-deflate; client_max_window_bits, x"):
            socket = self.open(extra=(f"Sec-WebSocket-Extensions: {offer}",))
            assert socket.response is not None
            self.assertEqual(socket.status, 101)
            self.assertNotIn("sec-websocket-extensions", socket.response.headers)
            compressed = bytearray(client_frame(2, b"\x00"))
            compressed[0] |= 0x40
            socket.socket.send(bytes(compressed))
            socket.read()
            self.assertEqual(socket.close_code, 1002)

    def test_subprotocols(self) -> None:
        """HS-9: the first offered of ours is taken; nothing else is ever echoed."""
        for offered, taken in (
            ("v12.stomp, v11.stomp", "v12.stomp"),
            ("v10.stomp,v12.stomp", "v10.stomp"),
            ("evil, v11.stomp", "v11.stomp"),
            ("V12.stomp", None),
            ("evil", None),
            (None, None),
        ):
            socket = self.open(subprotocols=offered)
            assert socket.response is not None
            self.assertEqual(socket.status, 101)
            self.assertEqual(socket.response.headers.get("sec-websocket-protocol"), taken)
            socket.socket.lose()
            self.application.clock.advance(1)

    def test_origin_of_the_ticket(self) -> None:
        """TK-10: a ticket for one page does not open for another, and is burnt by trying."""
        self.application = Application(origins=[GOOD, "https://other.example.com"])
        self.site = self.application.site
        target = f"/stomp?ticket={self.application.ticket()}"
        self.assert_denied(self.open(target, origin="https://other.example.com"), 403)
        self.assert_denied(self.open(target), 401)

    def test_path_of_the_ticket(self) -> None:
        """TK-10: a ticket for one WebSocket does not open another."""
        other = Application(
            tickets=self.application.tickets, websocket=WebSocketSettings(path="/other")
        )
        ticket = self.application.ticket()
        self.assertEqual(WebSocket(other.site, f"/other?ticket={ticket}").status, 403)

    def test_address_of_the_ticket(self) -> None:
        """TK-10: where tickets are bound to addresses, another address burns it."""
        self.application = Application(ticket=TicketSettings(bind_address=True))
        self.site = self.application.site
        target = f"/stomp?ticket={self.application.ticket()}"
        self.assert_denied(self.open(target, host="192.0.2.9"), 403)
        self.assert_denied(self.open(target), 401)
        self.assertEqual(self.open().status, 101)

    def test_race(self) -> None:
        """TK-6, I2: of two handshakes with one ticket, however they interleave, one opens."""
        target = f"/stomp?ticket={self.application.ticket()}"
        sockets = [Socket(self.site), Socket(self.site)]
        head = [
            f"GET {target} HTTP/1.1",
            "Host: x",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {KEY}",
            "Sec-WebSocket-Version: 13",
            f"Origin: {GOOD}",
            "",
            "",
        ]
        for octet in "\r\n".join(head).encode():
            for socket in sockets:
                socket.send(bytes([octet]))
        statuses = {read_response(socket.taken())[0].status for socket in sockets}
        self.assertEqual(statuses, {101, 401})

    def test_store_down(self) -> None:
        """HS-3, I8: a store that cannot answer opens nothing."""
        target = f"/stomp?ticket={self.application.ticket()}"
        self.patch(self.application.tickets, "redeem", lambda ticket: fail(Unavailable("down")))
        self.assert_denied(self.open(target), 503)

    def test_broken_store(self) -> None:
        """HS-3: an exception is a 503 with a constant phrase, not a status line of its text."""
        target = f"/stomp?ticket={self.application.ticket()}"
        self.patch(self.application.tickets, "redeem", lambda ticket: fail(OSError("hunter2")))
        socket = self.open(target)
        self.assert_denied(socket, 503)
        self.assertNotIn("hunter2", repr(socket.response))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_limits(self) -> None:
        """HS-7: limits of sockets are kept, and what is over goes back exactly once."""
        self.application = Application(limits=Limits(sessions_per_address=2))
        self.site = self.application.site
        sockets = [self.open(), self.open()]
        ticket = self.application.ticket("bob")
        self.assertEqual(self.open(f"/stomp?ticket={ticket}").status, 429)
        sockets[0].socket.lose()
        # The limit of the address came before the take: the ticket is good still.
        self.assertEqual(self.open(f"/stomp?ticket={ticket}").status, 101)
        self.assertEqual(self.application.stompauth._connections.total, 2)

    def test_http_place(self) -> None:
        """HS-7: a socket that has become a WebSocket leaves its place among those of HTTP, once."""
        self.site = StrictSite(
            PathRouter(self.application.stompauth.resources()),
            self.application.clock,
            connections=1,
        )
        sockets = [self.open() for _ in range(3)]
        waiting = Socket(self.site)
        self.assertIsNone(self.site.buildProtocol(None))
        for socket in sockets:
            socket.socket.lose()
        self.assertIsNone(self.site.buildProtocol(None))
        waiting.lose()
        self.assertEqual(self.open().status, 101)

    def test_user_limit(self) -> None:
        """HS-7: a user has no more sockets than he may, though he held the tickets before."""
        self.application = Application(limits=Limits(sessions_per_user=2))
        self.site = self.application.site
        targets = [f"/stomp?ticket={self.application.ticket()}" for _ in range(3)]
        self.assertEqual([self.open(target).status for target in targets], [101, 101, 429])

    def test_thousand_open_and_break(self) -> None:
        """RS-4: sockets that break off at every stage leave no count, timer or session behind."""
        self.application = Application(ticket=TicketSettings(rate=0), limits=Limits())
        self.site = self.application.site
        for n in range(250):
            Socket(self.site).lose()
            half = Socket(self.site)
            half.send(b"GET /stomp?ticket=" + b"x" * (n % 7) + b" HTTP/1.1\r\nHost:")
            half.lose()
            self.open().socket.lose()
            client = self.application.connect(f"user{n}")
            client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
            client.websocket.socket.lose()
        stompauth = self.application.stompauth
        self.assertEqual(
            (stompauth._connections.total, len(stompauth.sessions)),
            (0, 0),
        )
        self.assertEqual(self.application.stompauth._sessions.open_sessions, set())
        self.assertEqual(set(self.application.broker.counts().values()), {0})
        self.application.clock.advance(60)
        self.assertEqual(self.application.clock.getDelayedCalls(), [])

    def test_constant_reasons(self) -> None:
        """HS-3: what Autobahn has to complain about is told in our words, not in the peer's."""
        ticket = self.application.ticket()
        for replaced, value in (
            ("Host: x", "Host: x:<evil>"),
            ("Host: x", "Host: x\r\nSec-WebSocket-Protocol: evil\xa0, evil"),
        ):
            head = [
                f"GET /stomp?ticket={ticket} HTTP/1.1",
                "Host: x",
                "Upgrade: websocket",
                "Connection: Upgrade",
                f"Sec-WebSocket-Key: {KEY}",
                "Sec-WebSocket-Version: 13",
                f"Origin: {GOOD}",
            ]
            response = request(self.site, [value if line == replaced else line for line in head])
            self.assertEqual((response.status, response.reason), (400, "Bad Request"))
        self.assertEqual(self.open(f"/stomp?ticket={ticket}").status, 101)


class HangUpTests(SynchronousTestCase):
    """The end of a socket is ours: a peer that puts it off, as one can over TLS, gains nothing."""

    def setUp(self) -> None:
        self.application = Application()

    def open(self, target: str | None = None) -> WebSocket:
        target = target or f"/stomp?ticket={self.application.ticket()}"
        return WebSocket(self.application.site, target, lingers=True)

    def assert_cut_off(self, socket: WebSocket) -> None:
        self.assertFalse(socket.socket.lost)
        self.application.clock.pump([1] * 6)
        socket.socket.settle()
        self.assertTrue(socket.socket.lost)
        self.assertEqual(self.application.stompauth._connections.total, 0)
        self.assertEqual(self.application.stompauth._sessions.open_sessions, set())
        self.assertEqual(self.application.clock.getDelayedCalls(), [])

    def test_denied(self) -> None:
        """RS-5: a socket that was denied is cut off within close_timeout."""
        socket = self.open("/stomp?ticket=" + "x" * 43)
        self.assertEqual(socket.status, 401)
        self.assert_cut_off(socket)

    def test_closed_by_the_peer(self) -> None:
        """RS-5: so is one that the peer has closed, and its session with it."""
        socket = self.open()
        socket.close()
        self.assertEqual(socket.close_code, 1000)
        self.assert_cut_off(socket)

    def test_goes_in_time(self) -> None:
        """RS-4: a peer that does go leaves no timer behind."""
        socket = self.open("/stomp?ticket=" + "x" * 43)
        socket.socket.lose()
        self.assertEqual(self.application.clock.getDelayedCalls(), [])

    def test_nothing_is_kept(self) -> None:
        """I7: what a peer goes on sending is not kept."""
        denied, closed = self.open("/stomp?ticket=" + "x" * 43), self.open()
        closed.close()
        for socket in (denied, closed):
            for _ in range(10):
                socket.socket.send(b"x" * 1000)
            self.assertLess(len(socket.socket.transport.protocol.data), 1000)


class FloodTests(SynchronousTestCase):
    """WS-1: what is no message costs the server work, too, and is counted."""

    def setUp(self) -> None:
        # A hundred frames a second, and twice as many at once.
        self.application = Application(limits=Limits(bytes_per_second=100 * FRAME_COST))
        self.client = self.application.connect()
        self.calls: list[str] = []
        transport = self.client.websocket.socket.transport
        self.patch(transport, "pauseProducing", lambda: self.calls.append("pause"))
        self.patch(transport, "resumeProducing", lambda: self.calls.append("resume"))

    def flood(self, frame: bytes) -> None:
        for _ in range(4):
            self.client.websocket.socket.send(frame * 100)

    def test_pauses(self) -> None:
        """RS-2: reading pauses for a flood of pings, pongs, empty messages or fragments."""
        self.client.websocket.socket.send(client_frame(2, b"", fin=False))
        for opcode, fin in ((0, False), (9, True), (10, True)):
            self.flood(client_frame(opcode, b"", fin))
            self.assertEqual(self.calls, ["pause"])
            self.application.clock.pump([0.5] * 10)
            self.assertEqual(self.calls, ["pause", "resume"])
            self.calls.clear()
        self.client.websocket.socket.send(client_frame(0, b""))
        self.flood(client_frame(2, b""))
        self.assertEqual(self.calls, ["pause"])

    def test_goes_on(self) -> None:
        """RS-2: who floods on and on is cut off with limit."""
        for _ in range(70):
            if self.calls[-1:] != ["pause"]:
                self.flood(client_frame(9, b""))
            self.application.clock.advance(1)
        self.assertEqual(self.client.frames()[-1].headers.get("code"), "limit")

    def test_while_closing(self) -> None:
        """RS-2: a flood while the socket closes is read no more; the close has its own end."""
        self.client.send("DISCONNECT")
        self.flood(client_frame(9, b""))
        self.assertEqual(self.calls, ["pause"])
        self.application.clock.pump([1] * 6)
        self.client.websocket.socket.settle()
        self.assertTrue(self.client.websocket.socket.lost)

    def test_fragments_in_time(self) -> None:
        """ST-1: a message that dribbles in, in one frame or in fragments, has to end in time."""
        for begin, more in (
            (client_frame(2, b"", fin=False), client_frame(0, b"\n", fin=False)),
            (client_frame(2, b"\n" * 100)[:-90], b"\n"),
        ):
            client = self.application.connect("bob")
            socket = client.websocket.socket
            socket.send(begin)
            for _ in range(29):
                self.application.clock.advance(1)
                socket.send(more)
            self.assertEqual(client.frames(), [])
            self.application.clock.advance(1)
            self.assertEqual(client.frame().headers["code"], "frame-timeout")
            self.assertEqual(client.close_code, 4408)

    def test_pause_is_not_the_peers(self) -> None:
        """ST-1: while nothing is read, the time of an unfinished message does not run out."""
        self.client.websocket.socket.send(client_frame(2, b"", fin=False))
        self.client.websocket.socket.send(client_frame(9, b"") * 4500)
        self.application.clock.pump([1] * 40)
        self.assertEqual((self.calls, self.client.frames()), (["pause"], []))
        self.application.clock.pump([1] * 30)
        self.assertEqual(self.client.frame().headers["code"], "frame-timeout")

    def test_many_messages_in_pieces(self) -> None:
        """ST-1: the time is each message's own, however the octets of several are cut."""
        frame = client_frame(1, b"SEND\ndestination:/queue/work/x\n\n\0")
        self.client.websocket.socket.send(frame[:9])
        for _ in range(40):
            self.client.websocket.socket.send(frame[9:] + frame[:9])
            self.application.clock.advance(1)
        self.assertEqual(self.client.frames(), [])

    def test_pongs_are_not_logged(self) -> None:
        """LG-3: pongs that answer nothing fill no log, and do not stand for the one that does."""
        self.application = Application(websocket=WebSocketSettings(ping=25))
        socket = self.application.connect().websocket
        self.application.clock.advance(26)
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        socket.socket.send(client_frame(10, b"x") * 50)
        self.assertEqual(events, [])
        self.application.clock.advance(11)
        socket.socket.settle()
        self.assertTrue(socket.socket.lost)

    def test_huge_control_frame(self) -> None:
        """I7: a control frame that is longer than it may be fails the socket, and is not kept."""
        protocol = self.client.websocket.socket.transport.protocol
        self.client.websocket.socket.send(b"\x89\xff" + (2**40).to_bytes(8, "big") + b"mask")
        for _ in range(10):
            self.client.websocket.socket.send(b"x" * 1000)
        self.assertEqual(self.client.close_code, 1002)
        self.assertEqual((protocol.control_frame_data, protocol.data), ([], b""))


class PendingHandshakeTests(SynchronousTestCase):
    """While a ticket store across a network thinks, anything may happen to the socket."""

    def setUp(self) -> None:
        self.store = HeldStore()
        self.application = Application(tickets=self.store)
        self.target = "/stomp?ticket=" + "t" * 43

    def open(self) -> WebSocket:
        return WebSocket(self.application.site, self.target)

    def test_late_answer(self) -> None:
        """The socket opens when the store has answered."""
        socket = self.open()
        self.assertIsNone(socket.status)
        self.store.answers[0].callback(GRANT)
        socket.read()
        self.assertEqual(socket.status, 101)

    def test_peer_leaves(self) -> None:
        """HS-7: a client that left meanwhile leaves no session and no count behind."""
        socket = self.open()
        socket.socket.lose()
        self.assertEqual(self.application.stompauth._connections.total, 0)
        self.assertEqual(self.application.stompauth._sessions.open_sessions, set())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_peer_leaves_for_good(self) -> None:
        """HS-7: what a client that left was waiting for is waited for no longer."""
        socket = self.open()
        socket.socket.lose()
        self.assertTrue(self.store.answers[0].called)
        self.assertEqual(self.application.stompauth._connections.total, 0)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_stop_meanwhile(self) -> None:
        """OP-4: a handshake that is answered after the server began to stop is turned down."""
        socket = self.open()
        self.application.stompauth.service().stopService()
        self.store.answers[0].callback(GRANT)
        socket.read()
        self.assertEqual(socket.status, 503)

    def test_second_request(self) -> None:
        """HS-1: a second handshake behind a pending one ends the connection; nobody is let in."""
        socket = self.open()
        socket.socket.send(b"GET " + self.target.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(len(self.store.answers), 1)
        self.assertTrue(socket.socket.lost)
        self.store.answers[0].callback(GRANT)
        self.assertEqual(socket.socket.taken(), b"")
        self.assertEqual(self.application.stompauth._connections.total, 0)

    def test_time_limit(self) -> None:
        """HS-6: a handshake that is not answered in time is dropped."""
        socket = self.open()
        self.application.clock.advance(5.5)
        socket.socket.settle()
        self.assertTrue(socket.socket.lost)
        self.store.answers[0].callback(GRANT)
        self.assertEqual(self.application.stompauth._connections.total, 0)


class BearerTests(SynchronousTestCase):
    """Clients that can set headers may send the JWT itself, where that is configured."""

    def setUp(self) -> None:
        self.application = Application(websocket=WebSocketSettings(bearer=True))

    def open(self, target: str, *authorizations: str, **arguments: Any) -> WebSocket:
        extra = tuple(f"Authorization: {value}" for value in authorizations)
        return WebSocket(self.application.site, target, extra=extra, **arguments)

    def test_bearer(self) -> None:
        """A good token opens the socket, for the token's subject."""
        self.assertEqual(self.open("/stomp", f"Bearer {token()}").status, 101)

    def test_bad(self) -> None:
        """HS-3: a bad token gets the answer of a bad ticket."""
        self.assertEqual(self.open("/stomp", "Bearer a.b.c").status, 401)

    def test_failures_of_an_address(self) -> None:
        """JW-17, TK-12: after too many bad tokens of an address no signature is checked."""
        for _ in range(20):
            self.assertEqual(self.open("/stomp", "Bearer a.b.c").status, 401)
        self.assertEqual(self.open("/stomp", f"Bearer {token()}").status, 429)
        other = self.open("/stomp", f"Bearer {token()}", host="192.0.2.2")
        self.assertEqual(other.status, 101)
        self.application.clock.advance(3)
        self.assertEqual(self.open("/stomp", f"Bearer {token()}").status, 101)

    def test_exactly_one(self) -> None:
        """Both credentials, two headers or another scheme are malformed, and burn no ticket."""
        ticket = self.application.ticket()
        good = f"Bearer {token()}"
        self.assertEqual(self.open(f"/stomp?ticket={ticket}", good).status, 400)
        self.assertEqual(self.open("/stomp", good, good).status, 400)
        self.assertEqual(self.open("/stomp", f"Basic {token()}").status, 400)
        self.assertEqual(self.open(f"/stomp?ticket={ticket}").status, 101)

    def test_off(self) -> None:
        """Where it is not configured, Authorization opens nothing."""
        self.application = Application()
        self.assertEqual(self.open("/stomp", f"Bearer {token()}").status, 401)


class OriginlessTests(SynchronousTestCase):
    """``require_origin = false`` lets clients in that send no Origin."""

    def test_no_origin(self) -> None:
        """HS-4: a missing Origin passes then; a foreign one still does not."""
        application = Application(websocket=WebSocketSettings(require_origin=False))
        target = f"/stomp?ticket={application.ticket()}"
        self.assertEqual(WebSocket(application.site, target, origin="https://evil").status, 403)
        # The ticket was issued to a page, and so it is for that page alone.
        self.assertEqual(WebSocket(application.site, target, origin=None).status, 403)


class SecrecyTests(SynchronousTestCase):
    """LG-1: nothing that logs a handshake logs what it is worth."""

    def test_answer_repr(self) -> None:
        """LG-1: the repr of an answer has no body: it may be a ticket."""
        self.assertNotIn("secret", repr(json_answer({"ticket": "secret"}, is_secure=False)))

    def test_request_repr(self) -> None:
        """The repr of a handshake has no query."""
        handshake = HandshakeRequest(
            "/stomp", b"ticket=secret", (), (b"Bearer secret",), (), "192.0.2.1"
        )
        self.assertNotIn("secret", repr(handshake))

    def test_logs(self) -> None:
        """LG-1: no event, at any level, holds a ticket or a token, whatever happens."""
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        txaio.set_global_log_level("debug")
        self.addCleanup(txaio.set_global_log_level, "info")
        application = Application()
        secrets = [token(), token("bob"), application.ticket(), application.ticket("bob")]
        for target in (f"/stomp?ticket={secrets[2]}", f"/stomp?ticket={secrets[2]}"):
            WebSocket(application.site, target, extra=(f"Referer: https://x/{target}",))
        client = application.connect()
        client.send("SEND", destination="/topic/rooms/lobby", Authorization=f"Bearer {secrets[0]}")
        client.send("SEND", destination="/topic/rooms/lobby", Authorization=f"Bearer {secrets[1]}")
        mismatched = application.open()
        mismatched.connect(secrets[1])
        broken = application.open()
        broken.websocket.socket.send(client_frame(1, b"CONNECT\nAuthorization:" + b"x\r\n\n\0"))
        text = "\n".join(repr(event) + str(event.get("log_format", "")) for event in events)
        text += "".join(map(json_line, events))
        self.assertGreater(len(events), 10)
        for secret in secrets:
            self.assertNotIn(secret, text)
            self.assertNotIn(secret.rpartition(".")[2], text)
