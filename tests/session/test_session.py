"""Tests of stompauth.session.session."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from stompauth.authorization.rules import Rules, allow, deny
from stompauth.broker.unavailable import unavailable
from stompauth.errors import Refused
from stompauth.interceptors.interceptor import Interceptor
from stompauth.session.session import Session
from stompauth.settings import Limits, WebSocketSettings
from stompauth.stomp.connection import ServerConnection
from stompauth.stomp.frame import Frame
from tests.applications import NOW, Application, StompClient, token
from tests.wire import WebSocket, client_frame, post_token


class SessionTestCase(SynchronousTestCase):
    """What the tests here have in common."""

    application: Application
    client: StompClient

    def setUp(self) -> None:
        self.start()

    def start(self, **settings: Any) -> None:
        self.application = Application(**settings)
        self.client = self.application.connect()

    def assert_ended(self, code: str, close: int, client: StompClient | None = None) -> Frame:
        client = client or self.client
        frame = client.frames()[-1]
        self.assertEqual((frame.command, frame.headers.get("code")), ("ERROR", code))
        self.assertEqual(client.close_code, close)
        return frame


class LifeTests(SessionTestCase):
    """A session begins in time, and ends once, for a reason that is told."""

    def test_connect_timeout(self) -> None:
        """HS-8: a socket without CONNECT ends, and nothing that the client does puts it off."""
        client = self.application.open("bob")
        for _ in range(9):
            self.application.clock.advance(1)
            client.websocket.send("\n")
            client.websocket.socket.send(client_frame(9, b"ping"))
        client.websocket.send("CONNECT\nhalf-a:frame")
        self.assertEqual(client.frames(), [])
        self.application.clock.advance(1)
        self.assert_ended("connect-timeout", 4408, client)

    def test_expiry(self) -> None:
        """JW-14: a session that only listens ends with its token, plus the leeway."""
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        self.application.clock.advance(3609)
        self.assertEqual(self.client.frames(), [])
        self.application.clock.advance(1)
        self.assert_ended("token-expired", 4401)
        self.assertEqual(self.application.broker.counts()["topics"], 0)

    def test_disconnect(self) -> None:
        """DISCONNECT gets its receipt and a clean close; what comes behind it has no effect."""
        self.client.websocket.send(
            "DISCONNECT\nreceipt:bye\n\n\0SEND\ndestination:/queue/work/x\n\nlate\0"
        )
        self.assertEqual(self.client.frame().headers, {"receipt-id": "bye"})
        self.assertEqual(self.client.close_code, 1000)
        self.assertEqual(self.application.broker.counts()["queue_messages"], 0)

    def test_disconnect_without_receipt(self) -> None:
        """A DISCONNECT that asks for nothing is a clean goodbye, too."""
        self.client.send("DISCONNECT")
        self.assertEqual((self.client.frames(), self.client.close_code), ([], 1000))

    def test_end_once(self) -> None:
        """An end tells its reason once, whatever else happens then."""
        session = next(iter(self.application.stompauth.sessions))
        session.end("revoked")
        session.end("shutdown")
        session.data_received(b"SEND\n\n\0")
        self.client.websocket.read()
        self.client.websocket.socket.lose()
        session.connection_lost()
        self.assert_ended("revoked", 4403)
        self.assertEqual(len(self.application.stompauth.sessions), 0)

    def test_shutdown(self) -> None:
        """OP-4: a stop tells everybody, also before CONNECT, and waits for the sockets."""
        silent = self.application.open("bob")
        service = self.application.stompauth.service()
        service.startService()
        stopped = service.stopService()
        for client in (self.client, silent):
            self.assert_ended("shutdown", 1001, client)
            self.assertNoResult(stopped)
            client.websocket.close(1001)
        self.successResultOf(stopped)
        self.assertEqual(self.application.clock.getDelayedCalls(), [])

    def test_nobody_comes_in(self) -> None:
        """OP-4: while the server stops there are neither tickets nor sockets."""
        ticket = self.application.ticket("bob")
        self.application.stompauth.service().stopService()
        response = post_token(self.application.site, token("bob"))
        self.assertEqual((response.status, response.json), (503, {"error": "unavailable"}))
        site = self.application.site
        self.assertEqual(WebSocket(site, f"/stomp?ticket={ticket}").status, 503)
        self.application.stompauth.service().startService()
        self.assertEqual(WebSocket(site, f"/stomp?ticket={ticket}").status, 101)

    def test_shutdown_is_bounded(self) -> None:
        """OP-4: a client that does not answer the close is waited for no longer than may be."""
        stopped = self.application.stompauth.service().stopService()
        self.application.clock.advance(5)
        self.assertNoResult(stopped)
        self.application.clock.advance(1)
        self.successResultOf(stopped)

    def test_closing_takes_no_messages(self) -> None:
        """A WebSocket that is closing swallows nothing that a queue has for others."""
        for violation in (client_frame(3, b"x"), client_frame(1, b"\xff"), b"\x81\x00"):
            client = self.application.connect("bob")
            client.send("SUBSCRIBE", id="1", destination="/queue/work/x")
            client.websocket.socket.send(violation)
            self.assertIn(client.close_code, (1002, 1007))
            self.application.stompauth.publish("/queue/work/x", "kept")
            self.client.send("SUBSCRIBE", id="1", destination="/queue/work/x")
            self.assertEqual(self.client.frame().body, b"kept")
            self.client.send("UNSUBSCRIBE", id="1")
            self.application.clock.advance(1)

    def test_goodbye_in_one_segment(self) -> None:
        """What was asked for before a close frame is answered before the socket goes."""
        disconnect = client_frame(1, b"DISCONNECT\nreceipt:bye\n\n\0")
        self.client.websocket.socket.send(disconnect + client_frame(8, b"\x03\xe8"))
        self.assertEqual(self.client.frame().headers, {"receipt-id": "bye"})
        self.assertEqual(self.client.close_code, 1000)

    def test_registry(self) -> None:
        """A session can be found by id and by user, from CONNECTED to its end."""
        other = self.application.connect()
        sessions = self.application.stompauth.sessions
        assert self.client.connected is not None
        session = sessions.get(self.client.connected.headers["session"])
        assert session is not None
        self.assertEqual(
            (session.user, session.version, session.address), ("alice", "1.2", "192.0.2.1")
        )
        self.assertEqual(sessions.of_user("alice")[0], session)
        self.assertEqual(len(sessions.of_user("alice")), 2)
        self.client.send("DISCONNECT")
        other.websocket.socket.lose()
        self.assertEqual((sessions.of_user("alice"), len(sessions)), ([], 0))

    def test_ping(self) -> None:
        """WS-2: a peer that answers no WebSocket ping is dropped, though STOMP asks for nothing."""
        self.start(websocket=WebSocketSettings(ping=25))
        self.application.clock.pump([1] * 26)
        self.client.websocket.read()
        self.assertEqual(len(self.client.websocket.pings), 1)
        self.application.clock.pump([1] * 11)
        self.client.websocket.read()
        self.assertTrue(self.client.websocket.socket.lost)
        self.assertEqual(len(self.application.stompauth.sessions), 0)


class HeartBeatTests(SessionTestCase):
    """Heart-beats are kept in both directions as negotiated (STOMP 1.2, Heart-beating)."""

    def connect(self, heart_beat: str) -> StompClient:
        client = self.application.open("bob")
        client.connect(token("bob"), heart_beat=heart_beat)
        return client

    def beats(self, client: StompClient) -> int:
        return sum(message == "\n" for message in client.websocket.take())

    def test_we_send(self) -> None:
        """We send one within every interval while nothing else goes out."""
        client = self.connect("0,10000")
        self.application.clock.pump([0.5] * 20)
        self.assertGreaterEqual(self.beats(client), 1)
        self.application.clock.pump([0.5] * 60)
        self.assertGreaterEqual(self.beats(client), 3)

    def test_we_expect(self) -> None:
        """ST-13: a client that falls silent is dropped; any octet of it counts."""
        client = self.connect("10000,0")
        for _ in range(10):
            self.application.clock.pump([1] * 10)
            client.websocket.send("\n")
        self.assertEqual(client.close_code, None)
        self.application.clock.pump([1] * 21)
        self.assert_ended("heartbeat-timeout", 4408, client)

    def test_none(self) -> None:
        """0,0 is never ended by STOMP."""
        client = self.connect("0,0")
        self.application.clock.pump([10] * 300)
        self.assertEqual((client.frames(), client.close_code), ([], None))

    def test_no_octets_before_connect(self) -> None:
        """ST-13: heart-beats before CONNECT are no proof of anything."""
        client = self.application.open("bob")
        client.websocket.send("\n\n\r\n")
        client.connect(token("bob"))
        assert client.connected is not None


class InboundTests(SessionTestCase):
    """Frames come in any pieces, in order, and within bounds of size and time."""

    def test_split_and_joined(self) -> None:
        """ST-1: a frame over many messages, text or binary; many frames in one message."""
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        frame = "SEND\ndestination:/topic/rooms/lobby\nreceipt:r\n\nh\xe4llo\0".encode()
        for octet in frame:
            self.client.websocket.send(bytes([octet]))
        self.assertEqual([f.command for f in self.client.frames()], ["MESSAGE", "RECEIPT"])
        self.client.websocket.send((frame * 3).decode())
        self.assertEqual([f.command for f in self.client.frames()], ["MESSAGE", "RECEIPT"] * 3)

    def test_half_a_frame(self) -> None:
        """ST-1: a frame has its time from the first to the last octet, each frame anew."""
        self.client.websocket.send("SEND\ndestination:/queue/work/x\n")
        self.application.clock.advance(29)
        self.client.websocket.send("\nx\0SEND\n")
        self.application.clock.advance(29)
        self.assertEqual(self.client.frames(), [])
        self.client.websocket.send("destination:/queue/work/x\n")
        self.application.clock.advance(1)
        self.assert_ended("frame-timeout", 4408)

    def test_too_large(self) -> None:
        """WS-1, ST-2: a frame over the limit ends the session with 1009."""
        self.start(limits=Limits(frame=1000))
        self.client.send("SEND", b"x" * 900, destination="/queue/work/x", receipt="r")
        self.assertEqual(self.client.frame().command, "RECEIPT")
        self.client.send("SEND", b"x" * 1000, destination="/queue/work/x")
        self.assert_ended("too-large", 1009)

    def test_message_too_large(self) -> None:
        """WS-1: a WebSocket message may be 16 KiB longer than a frame, and no more."""
        self.start(limits=Limits(frame=1000))
        self.client.websocket.send("\n" * (1000 + 16384))
        self.assertEqual(self.client.close_code, None)
        self.client.websocket.send("\n" * (1000 + 16385))
        self.assertEqual(self.client.close_code, 1009)

    def test_small_before_connect(self) -> None:
        """HS-8: before CONNECT a frame is small."""
        client = self.application.open("bob")
        client.websocket.send("CONNECT\n" + "x:y\n" * 60 + "Authorization:" + "x" * 16384)
        self.assert_ended("too-large", 1009, client)

    def test_errors_echo_nothing(self) -> None:
        """ST-12: an ERROR has fixed texts, and nothing of what the client has sent."""
        for message in (
            "FOO\nsecret:secret\n\nsecret\0",
            "SEND\nsecret\n\n\0",
            "SEND\nsecret:a\n\n\0",
        ):
            client = self.application.connect()
            client.websocket.send(message)
            (frame,) = client.frames()
            self.assertEqual(frame.command, "ERROR")
            self.assertNotIn("secret", repr((frame.headers, frame.body)))
            self.assertEqual(client.close_code, 1002)
            self.application.clock.advance(1)

    def test_receipt_id_of_an_error(self) -> None:
        """An ERROR names the receipt that the frame had asked for (STOMP 1.2, ERROR)."""
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/attic", receipt="a:b")
        self.assertEqual(self.assert_ended("access-denied", 4403).headers["receipt-id"], "a:b")
        client = self.application.connect()
        client.websocket.send("SUBSCRIBE\ndestination:/topic/x\nreceipt:r\n\n\0")
        self.assertEqual(
            self.assert_ended("missing-header", 1002, client).headers["receipt-id"], "r"
        )

    def test_no_common_version(self) -> None:
        """The answer to an unknown version says which there are (STOMP 1.2, negotiation)."""
        client = self.application.open("bob")
        client.connect(token("bob"), "1.3")
        frame = self.assert_ended("unknown-version", 1002, client)
        self.assertEqual(frame.headers["version"], "1.0,1.1,1.2")


class Hold(Interceptor):
    """Makes SENDs with a ``hold`` header wait for their Deferred."""

    def __init__(self) -> None:
        self.held: list[Deferred[Frame | None]] = []

    def pre_send(self, frame: Frame, session: Session) -> Any:
        if "hold" not in frame.headers:
            return frame
        self.held.append(Deferred())
        return self.held[-1]


class WaitingTests(SessionTestCase):
    """ST-9: a frame that waits holds back its own session, in order and within a bound."""

    def setUp(self) -> None:
        self.hold = Hold()
        self.start(interceptors=[self.hold])

    def send(self, n: int, **headers: str) -> None:
        self.client.send("SEND", destination="/queue/work/x", receipt=str(n), **headers)

    def receipts(self) -> list[str]:
        return [frame.headers["receipt-id"] for frame in self.client.frames()]

    def test_order(self) -> None:
        """Later frames wait; another session does not."""
        self.send(1, hold="yes")
        self.send(2)
        self.assertEqual(self.receipts(), [])
        other = self.application.connect("bob")
        other.send("SEND", destination="/queue/work/y", receipt="o")
        self.assertEqual(other.frame().headers["receipt-id"], "o")
        self.hold.held[0].callback(Frame("SEND", {"destination": "/queue/work/x"}))
        self.assertEqual(self.receipts(), ["1", "2"])

    def test_reading_pauses(self) -> None:
        """RS-2: reading pauses at the bound, and goes on when the frame is over."""
        self.send(0, hold="yes")
        transport = self.client.websocket.socket.transport
        paused: list[str] = []
        self.patch(transport, "pauseProducing", lambda: paused.append("pause"))
        self.patch(transport, "resumeProducing", lambda: paused.append("resume"))
        for n in range(1, 64):
            self.send(n)
        self.assertEqual(paused, [])
        self.send(64)
        self.assertEqual(paused, ["pause"])
        self.hold.held[0].callback(None)
        self.assertEqual(paused, ["pause", "resume"])
        self.assertEqual(self.receipts(), [str(n) for n in range(65)])

    def test_pause_lasts(self) -> None:
        """RS-2: while frames are held, one that does not wait long lets nothing more come."""
        self.send(0, hold="yes")
        transport = self.client.websocket.socket.transport
        paused: list[str] = []
        self.patch(transport, "pauseProducing", lambda: paused.append("pause"))
        self.patch(transport, "resumeProducing", lambda: paused.append("resume"))
        for n in range(1, 65):
            self.client.send(
                "SEND", destination="/session/token", Authorization=f"Bearer {token()}"
            )
            self.send(n, hold="yes")
        for held in range(64):
            self.hold.held[held].callback(None)
            self.assertEqual(paused, ["pause"])
        self.hold.held[64].callback(None)
        self.assertEqual(paused, ["pause", "resume"])

    def test_broken_session(self) -> None:
        """What fails after a wait ends the session, as it would have without the wait."""

        def broken(connection: object) -> None:
            raise OSError

        self.send(1, hold="yes")
        self.patch(ServerConnection, "next_frame", broken)
        self.hold.held[0].callback(None)
        self.assert_ended("internal", 1011)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_broken_after_throttle(self) -> None:
        """So does what fails after a pause for those who send too much."""

        def broken(connection: object) -> None:
            raise OSError

        self.start(limits=Limits(frames_per_second=10))
        self.client.websocket.send("SEND\ndestination:/queue/work/x\n\n\0" * 30)
        self.patch(ServerConnection, "next_frame", broken)
        self.application.clock.advance(1)
        self.assert_ended("internal", 1011)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_waiting_is_not_silence(self) -> None:
        """A client is not dropped for the silence that we impose on it."""
        client = self.application.open("bob")
        client.connect(token("bob"), heart_beat="10000,0")
        client.send("SEND", destination="/queue/work/x", hold="yes")
        client.websocket.send("\n")
        self.application.clock.pump([1] * 60)
        self.assertEqual(client.close_code, None)
        self.hold.held[0].callback(None)
        client.websocket.send("\n")
        self.application.clock.pump([1] * 5)
        self.assertEqual(client.close_code, None)

    def test_session_ends_meanwhile(self) -> None:
        """What comes of the wait has no effect on a session that has ended."""
        self.send(1, hold="yes")
        next(iter(self.application.stompauth.sessions)).end("revoked")
        self.assertTrue(self.hold.held[0].called, "the wait was not cancelled")
        self.assertEqual(self.application.broker.counts()["queue_messages"], 0)

    def test_refusal(self) -> None:
        """A refusal that comes late is an ERROR with the receipt of its frame."""
        self.send(1, hold="yes")
        self.hold.held[0].errback(Refused("limit"))
        self.assertEqual(self.assert_ended("limit", 4429).headers["receipt-id"], "1")

    def test_failure(self) -> None:
        """ST-15: an exception refuses, as an internal error that tells nothing, and is logged."""
        self.send(1, hold="yes")
        self.hold.held[0].errback(OSError("hunter2"))
        frame = self.assert_ended("internal", 1011)
        self.assertNotIn("hunter2", repr((frame.headers, frame.body)))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


class OutboundTests(SessionTestCase):
    """A client that does not read costs so much and no more, and hurts nobody else."""

    def setUp(self) -> None:
        self.start(limits=Limits(send_buffer=1000, send_timeout=10))
        self.fast = self.application.connect("bob")
        for client in (self.client, self.fast):
            client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        self.slow = self.application.stompauth.sessions.of_user("alice")[0]

    def publish(self, times: int) -> None:
        for n in range(times):
            self.application.stompauth.publish("/topic/rooms/lobby", f"{n:0100}")

    def bodies(self, client: StompClient) -> list[int]:
        return [int(frame.body) for frame in client.frames() if frame.command == "MESSAGE"]

    def test_order(self) -> None:
        """What waited comes first, and in order."""
        self.publish(1)
        self.assertEqual(self.bodies(self.client), [0])
        self.slow.blocked()
        self.publish(3)
        self.assertEqual(self.bodies(self.client), [])
        self.slow.unblocked()
        self.publish(2)
        self.assertEqual(self.bodies(self.client), [0, 1, 2, 0, 1])

    def test_too_much(self) -> None:
        """RS-1: over the buffer's bound the session ends; the fast one gets everything."""
        self.slow.blocked()
        self.publish(20)
        self.assert_ended("slow-consumer", 4429)
        self.assertEqual(self.bodies(self.fast), list(range(20)))

    def test_gap(self) -> None:
        """Where messages may have been missed the session ends, and says when to come back."""
        self.slow.end(unavailable())
        error = self.assert_ended("broker-unavailable", 1013)
        self.assertIn(int(error.headers["retry-after"]), range(2, 11))

    def test_too_long(self) -> None:
        """RS-5: so does one that takes nothing for too long."""
        self.slow.blocked()
        self.application.clock.advance(9)
        self.slow.unblocked()
        self.slow.blocked()
        self.application.clock.advance(9)
        self.assertEqual(self.client.frames(), [])
        self.application.clock.advance(1)
        self.assert_ended("slow-consumer", 4429)

    def test_queue_goes_to_others(self) -> None:
        """What a queue has is not heaped up for a client that does not take it."""
        for client in (self.client, self.fast):
            client.send("SUBSCRIBE", id="q", destination="/queue/work/x")
        self.slow.blocked()
        for n in range(20):
            self.application.stompauth.publish("/queue/work/x", f"{n:0100}")
        self.assertEqual(self.bodies(self.fast), list(range(20)))
        self.slow.unblocked()
        self.application.stompauth.publish("/queue/work/x", "1")
        self.application.stompauth.publish("/queue/work/x", "2")
        self.assertEqual(len(self.bodies(self.client)), 1)

    def test_binary(self) -> None:
        """A body that is not UTF-8 goes out as a binary message, every octet of it."""
        self.application.stompauth.publish("/topic/rooms/lobby", b"\xff\0\xfe")
        (message,) = self.client.websocket.take()
        assert isinstance(message, bytes)
        self.assertTrue(message.endswith(b"\n\n\xff\0\xfe\0"))


class NoticeTests(SessionTestCase):
    """``on_deny = "notify"``: a denial is told, and the session goes on."""

    def setUp(self) -> None:
        rules = Rules(
            [
                deny("subscribe", "send", "/topic/soft", on_deny="notify"),
                allow("subscribe", "send", "/topic/open"),
            ]
        )
        self.start(rules=rules)

    def test_subscribe(self) -> None:
        """A refused SUBSCRIBE gets a notice to its own id, and no receipt."""
        self.client.send("SUBSCRIBE", id="s", destination="/topic/soft", receipt="r")
        notice = self.client.frame()
        self.assertEqual(notice.command, "MESSAGE")
        self.assertEqual(notice.headers["subscription"], "s")
        self.assertEqual(notice.headers["error"], "true")
        self.assertEqual(notice.headers["code"], "access-denied")
        self.assertEqual(notice.headers["receipt-id"], "r")
        self.assertNotIn("ack", notice.headers)
        # stompjs unsubscribes what it believes to have.
        self.client.send("UNSUBSCRIBE", id="s", receipt="u")
        self.assertEqual(self.client.frame().headers, {"receipt-id": "u"})
        self.client.send("UNSUBSCRIBE", id="s")
        self.assert_ended("unknown-subscription", 1002)

    def test_send(self) -> None:
        """A refused SEND is told to the session's subscription of /user/queue/errors."""
        self.client.send("SUBSCRIBE", id="e", destination="/user/queue/errors")
        self.client.send("SEND", destination="/topic/soft", receipt="r")
        notice = self.client.frame()
        self.assertEqual(notice.headers["subscription"], "e")
        self.assertEqual(notice.headers["destination"], "/user/queue/errors")
        self.assertEqual(notice.headers["receipt-id"], "r")

    def test_nobody_to_tell(self) -> None:
        """Without that subscription a refused SEND is an ERROR."""
        self.client.send("SEND", destination="/topic/soft", receipt="r")
        self.assert_ended("access-denied", 4403)

    def test_default_is_close(self) -> None:
        """What no rule matches ends the session, unless configured otherwise."""
        self.client.send("SUBSCRIBE", id="e", destination="/user/queue/errors")
        self.client.send("SEND", destination="/topic/other")
        self.assert_ended("access-denied", 4403)


class RulesTests(SessionTestCase):
    """AZ-1: SUBSCRIBE and SEND are allowed by a rule, or not at all."""

    def test_default_deny(self) -> None:
        """What no rule allows is denied."""
        for command in ("SUBSCRIBE", "SEND"):
            for destination in ("/topic/rooms/attic", "/topic/x", "/queue/x", "/exchange/x/y"):
                client = self.application.connect()
                client.send(command, id="1", destination=destination)
                self.assert_ended("access-denied", 4403, client)
                self.application.clock.advance(1)

    def test_bad_destinations(self) -> None:
        """AZ-2: what does not follow the grammar is refused, never normalised."""
        for destination in ("topic/x", "/topic//x", "/topic/../x", "/topic/x/", "/topic/%78", ""):
            client = self.application.connect()
            client.send("SEND", destination=destination)
            self.assert_ended("bad-destination", 1002, client)
            self.application.clock.advance(1)

    def test_other_users_queue(self) -> None:
        """AZ-5, AZ-6: nobody subscribes to another user's queue, by any name."""
        for destination in (
            "/user/bob/queue/private",
            "/queue/private-userbob",
            "/queue/x-bob",
            "/user/../queue/private",
        ):
            client = self.application.connect()
            client.send("SUBSCRIBE", id="1", destination=destination)
            client.frames()
            self.assertIn(client.close_code, (4403, 1002))
            self.application.clock.advance(1)

    def test_private_message(self) -> None:
        """AZ-7: a private message reaches all sessions of its user, under the name they know."""
        bobs = [self.application.connect("bob"), self.application.connect("bob")]
        carol = self.application.connect("carol")
        for client in (*bobs, carol):
            client.send("SUBSCRIBE", id="p", destination="/user/queue/private")
        self.client.send("SEND", b"psst", destination="/user/bob/queue/private", receipt="r")
        self.assertEqual(self.client.frame().command, "RECEIPT")
        for client in bobs:
            message = client.frame()
            self.assertEqual(message.headers["destination"], "/user/queue/private")
            self.assertEqual(message.body, b"psst")
        self.assertEqual(carol.frames(), [])

    def test_send_to_user(self) -> None:
        """The application sends to a user, and learns to how many sessions it went."""
        self.client.send("SUBSCRIBE", id="p", destination="/user/queue/private")
        send = self.application.stompauth.send_to_user
        sent = send("alice", "/queue/private", "hi", {"code": "x", "a": "b"})
        self.assertEqual(self.successResultOf(sent), 1)
        self.assertEqual(self.successResultOf(send("bob", "/queue/private", "hi")), 0)
        self.assertEqual(
            self.failureResultOf(send("bob", "/topic/x", "hi"), Refused).value.code,
            "no-such-destination",
        )
        headers = self.client.frame().headers
        self.assertEqual((headers["a"], "code" in headers), ("b", False))

    def test_sender(self) -> None:
        """A MESSAGE says who sent it where that is configured, and a client cannot forge it."""
        self.start(stamp_sender=True)
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        self.client.send("SEND", destination="/topic/rooms/lobby", sender="root", Sender="root")
        headers = self.client.frame().headers
        self.assertEqual((headers["sender"], "Sender" in headers), ("alice", False))

    def test_firewall(self) -> None:
        """I6, ST-10: no credential and no header of the server's crosses to a receiver."""
        self.client.send("SUBSCRIBE", id="1", destination="/topic/rooms/lobby")
        self.client.send(
            "SEND",
            b"x",
            destination="/topic/rooms/lobby",
            Authorization=f"Bearer {token(iat=int(NOW) - 1)}",
            authorization="Bearer x",
            passcode="x",
            ticket="x",
            receipt="r",
            **{"message-id": "mine", "subscription": "9", "ack": "9", "X-Stompauth-A": "x"},
            **{"content-type": "text/x", "my": "own"},
        )
        message, receipt = self.client.frames()
        self.assertEqual(receipt.headers, {"receipt-id": "r"})
        self.assertNotEqual(message.headers.pop("message-id"), "mine")
        self.assertEqual(
            message.headers,
            {
                "destination": "/topic/rooms/lobby",
                "subscription": "1",
                "content-type": "text/x",
                "my": "own",
                "content-length": "1",
            },
        )
