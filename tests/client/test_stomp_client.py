"""A client's session."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, fail

from stompauth.errors import (
    ClientError,
    Disconnected,
    FrameRefused,
    LocalProtocolError,
    NoReceipt,
)
from stompauth.interceptors.interceptor import Interceptor
from stompauth.stomp.frame import Frame
from tests.applications import NOW
from tests.client.servers import ClientCase, ScriptedServer

if TYPE_CHECKING:
    from stompauth.client.stomp_client import StompClient
    from stompauth.client.subscription import Message


class Hold(Interceptor):
    """Keeps every SEND to /queue/work/held."""

    async def pre_send(self, frame: Frame, session: Any) -> Frame:
        if frame.headers.get("destination") == "/queue/work/held":
            await Deferred()
        return frame


class MessagesTests(ClientCase):
    """Subscribing and sending."""

    def setUp(self) -> None:
        super().setUp()
        self.client = self.connect()
        self.messages: list[Message] = []

    def subscribe(self, destination: str, **arguments: Any) -> Any:
        """Subscribe, and collect what comes."""
        return self.server.result_of(
            self.client.subscribe(destination, self.messages.append, **arguments)
        )

    def send(self, *arguments: Any) -> None:
        """Send, and wait until the server has it."""
        self.server.result_of(self.client.send(*arguments))

    def test_connected(self) -> None:
        """The client knows what CONNECTED says."""
        (session,) = self.application.sessions
        self.assertEqual(self.client.session_id, session.session_id)
        self.assertEqual(self.client.user, "alice")
        self.assertEqual(self.client.expires_at, NOW + 3600)
        self.assertTrue(self.client.is_connected)

    def test_message(self) -> None:
        """A message comes with destination, body and the sender's headers."""
        subscription = self.subscribe("/topic/rooms/lobby")
        self.send("/topic/rooms/lobby", "grüß\nGott", {"kind": "a:b"})
        (message,) = self.messages
        self.assertEqual(message.destination, "/topic/rooms/lobby")
        self.assertEqual(message.text, "grüß\nGott")
        self.assertEqual(message.headers["kind"], "a:b")
        self.assertTrue(subscription.is_active)

    def test_octets(self) -> None:
        """Octets that are no text arrive as they are; as text they can still be read."""
        self.subscribe("/topic/rooms/lobby")
        self.send("/topic/rooms/lobby", b"\xff\0\n")
        self.assertEqual([message.body for message in self.messages], [b"\xff\0\n"])
        self.assertEqual(self.messages[0].text, "\ufffd\0\n")

    def test_message_repr(self) -> None:
        """A message's repr holds neither its body nor its headers."""
        self.subscribe("/topic/rooms/lobby")
        self.send("/topic/rooms/lobby", "hunter2", {"key": "hunter2"})
        self.assertEqual(repr(self.messages), "[<Message to /topic/rooms/lobby, 7 bytes>]")

    def test_unsubscribe(self) -> None:
        """Nothing comes any more; to unsubscribe twice is no harm."""
        subscription = self.subscribe("/topic/rooms/lobby")
        self.server.result_of(subscription.unsubscribe())
        self.send("/topic/rooms/lobby", "hello")
        self.assertEqual(self.messages, [])
        self.assertFalse(subscription.is_active)
        self.server.result_of(subscription.unsubscribe())
        self.assertTrue(self.client.is_connected)

    def test_ack(self) -> None:
        """What is acknowledged is not held any more; what is not comes again."""
        subscription = self.subscribe("/queue/work/a", ack="client-individual")
        self.send("/queue/work/a", "1")
        self.send("/queue/work/a", "2")
        self.server.result_of(self.messages[0].ack())
        self.server.result_of(self.messages[1].nack())
        self.assertEqual([message.text for message in self.messages], ["1", "2", "2"])
        self.assertEqual(self.messages[2].headers["delivery-count"], "2")
        self.server.result_of(subscription.unsubscribe())

    def test_ack_of_auto(self) -> None:
        """There is nothing to acknowledge where the server does not wait for it."""
        self.subscribe("/topic/rooms/lobby")
        self.send("/topic/rooms/lobby", "hello")
        self.failureResultOf(self.messages[0].ack(), LocalProtocolError)
        self.assertTrue(self.client.is_connected)

    def test_headers(self) -> None:
        """Further headers go out with SUBSCRIBE."""
        self.subscribe("/queue/work/a", ack="client", headers={"prefetch-count": "1"})
        for body in "12":
            self.send("/queue/work/a", body)
        self.assertEqual([message.text for message in self.messages], ["1"])

    def test_transaction(self) -> None:
        """What is sent in a transaction goes on its way at commit, or not at all."""
        self.subscribe("/topic/rooms/lobby")
        for end, expected in ((self.client.abort, []), (self.client.commit, ["hello"])):
            self.server.result_of(self.client.begin("t"))
            self.send("/topic/rooms/lobby", "hello", {"transaction": "t"})
            self.assertEqual(self.messages, [])
            self.server.result_of(end("t"))
            self.assertEqual([message.text for message in self.messages], expected)

    def test_bad_header(self) -> None:
        """What cannot be sent is the caller's fault, and does no harm."""
        self.failureResultOf(self.client._ask("NOTHING", {}), LocalProtocolError)
        self.send("/topic/rooms/lobby")


class RefusalTests(ClientCase):
    """What the server refuses."""

    def renew(self, room: str) -> None:
        """Let the only session go on with a token for another room."""
        (session,) = self.application.sessions
        principal = self.successResultOf(self.verifier.verify(self.token("alice", room)))
        self.server.result_of(Deferred.fromCoroutine(session.renew(principal)))
        self.server.flush()

    def test_error(self) -> None:
        """A refusal that ends the session fails all that waits, with code and close status."""
        self.serve(interceptors=[Hold()])
        client = self.connect()
        subscribing = client.subscribe("/topic/rooms/cellar", print)
        sending = client.send("/topic/rooms/lobby")
        self.server.flush()
        for waiting in (subscribing, sending):
            error = self.assert_fails(waiting, Disconnected, "access-denied")
            self.assertEqual(error.close_code, 4403)
            self.assertTrue(error.is_final)
            self.assertEqual(error.explanation, "No rule allows this.")
        self.assertEqual([reason.code for reason in self.ends], ["access-denied"])
        self.assertFalse(client.is_connected)
        self.assert_fails(client.send("/topic/rooms/lobby"), Disconnected, "access-denied")

    def test_notice(self) -> None:
        """A refusal by a notice fails what it answers, and the session goes on."""
        client = self.connect()
        error = self.assert_fails(client.send("/topic/quiet/x"), FrameRefused, "access-denied")
        self.assertIsNone(error.destination)
        subscribing = client.subscribe("/topic/quiet/x", print)
        error = self.assert_fails(subscribing, FrameRefused, "access-denied")
        self.assertEqual(error.destination, "/topic/quiet/x")
        self.server.result_of(client.send("/topic/rooms/lobby"))
        self.assertEqual(self.notices, [])

    def test_lost_subscription(self) -> None:
        """A subscription that the server takes away is not active any more, and one is told."""
        client = self.connect()
        subscription = self.server.result_of(client.subscribe("/topic/rooms/lobby", print))
        self.renew("cellar")
        (notice,) = self.notices
        self.assertEqual(notice.code, "access-denied")
        self.assertEqual(notice.destination, "/topic/rooms/lobby")
        self.assertFalse(subscription.is_active)
        self.server.result_of(subscription.unsubscribe())
        self.assertTrue(client.is_connected)

    def test_unwanted_notice(self) -> None:
        """Without anybody to be told, a notice is logged; a bad callback does no harm."""
        for on_notice, errors in ((None, 0), (lambda notice: 1 / 0, 1)):
            client = self.connect(on_notice=on_notice)
            self.server.result_of(client.subscribe("/topic/rooms/lobby", print))
            self.renew("cellar")
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), errors)
            self.assertTrue(client.is_connected)
            self.server.result_of(client.disconnect())

    def test_no_receipt(self) -> None:
        """Who hears nothing in time is told; a receipt that comes later does no harm."""
        held: list[Deferred[None]] = []

        class HoldOne(Interceptor):
            async def pre_send(self, frame: Frame, session: Any) -> Frame:
                if frame.headers.get("destination") == "/queue/work/held":
                    held.append(Deferred())
                    await held[0]
                return frame

        self.serve(interceptors=[HoldOne()])
        client = self.connect()
        sending = client.send("/queue/work/held")
        self.server.advance(29)
        self.assertNoResult(sending)
        self.server.advance(1)
        self.assert_fails(sending, NoReceipt, "no-receipt")
        self.assertEqual(client._receipts, {})
        held[0].callback(None)
        self.server.result_of(client.send("/topic/rooms/lobby"))

    def test_cancelled(self) -> None:
        """Who does not want to wait any more cancels; nothing is left of it."""
        self.serve(interceptors=[Hold()])
        client = self.connect()
        sending = client.send("/queue/work/held")
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.assertEqual(client._receipts, {})


class EndTests(ClientCase):
    """The end of a session."""

    def test_disconnect(self) -> None:
        """What was asked before is done; then the session is over, and not by a fault."""
        client = self.connect()
        other = self.connect(on_disconnect=None)
        messages: list[Message] = []
        self.server.result_of(other.subscribe("/topic/rooms/lobby", messages.append))
        self.ends.clear()
        client = self.connect()
        sending = client.send("/topic/rooms/lobby", "hello")
        self.server.result_of(client.disconnect())
        self.assertIsNone(self.successResultOf(sending))
        self.assertEqual([message.text for message in messages], ["hello"])
        (reason,) = self.ends
        self.assertEqual((reason.code, reason.close_code), ("disconnected", None))
        self.assertFalse(reason.is_final)
        self.assertIs(client.reason, reason)
        self.assertIsNone(self.successResultOf(client.disconnect()))
        self.assert_fails(client.send("/topic/rooms/lobby"), Disconnected, "disconnected")

    def test_lost(self) -> None:
        """When the connection breaks, all that waits fails, and no timer is left."""
        self.serve(interceptors=[Hold()])
        client = self.connect()
        subscription = self.server.result_of(client.subscribe("/topic/rooms/lobby", print))
        sending = client.send("/queue/work/held")
        self.server.flush()
        self.server.close()
        error = self.assert_fails(sending, Disconnected, "connection-lost")
        self.assertFalse(error.is_final)
        self.assertEqual([reason.code for reason in self.ends], ["connection-lost"])
        self.assertFalse(subscription.is_active)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_shutdown(self) -> None:
        """A server that stops says so; one may come back."""
        service = self.application.service()
        self.connect()
        service.startService()
        self.server.result_of(service.stopService())
        (reason,) = self.ends
        self.assertEqual((reason.code, reason.close_code), ("shutdown", 1001))
        self.assertFalse(reason.is_final)

    def test_bad_callback(self) -> None:
        """A callback that fails at the end does not keep the others from it."""
        client = self.connect(on_disconnect=lambda reason: 1 / 0)
        self.server.result_of(client.disconnect())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class BufferTests(ClientCase):
    """A server that does not read."""

    def test_send_buffer(self) -> None:
        """What may wait for it is bounded; once it reads, sending goes on."""
        client = self.connect()
        client.blocked()
        fits = client.send("/queue/work/a", bytes(60_000))
        for _ in range(17):
            client.send("/queue/work/a", bytes(60_000)).addErrback(lambda _: None)
        error = self.failureResultOf(client.send("/queue/work/a", b"x"), ClientError).value
        self.assertEqual(error.code, "send-buffer-full")
        client.unblocked()
        self.server.result_of(client.send("/queue/work/a", b"x"))
        self.assertIsNone(self.successResultOf(fits))
        client.blocked()
        self.server.result_of(client.send("/queue/work/a", b"x"))

    def test_transport(self) -> None:
        """The transport says when it is full."""
        client = self.connect()
        transport = self.server._pumps[-1].clientIO
        transport.producer.pauseProducing()
        self.assertTrue(client._is_blocked)
        transport.producer.resumeProducing()
        self.assertFalse(client._is_blocked)


class HeartbeatTests(ClientCase):
    """Heart-beats."""

    def test_alive(self) -> None:
        """Both ends keep an idle session alive, pings and heart-beats included."""
        client = self.connect(lambda: self.token(lifetime=86400))
        self.server.advance(7200)
        self.assertTrue(client.is_connected)
        self.server.result_of(client.send("/topic/rooms/lobby"))

    def test_dead(self) -> None:
        """A server that promised heart-beats and is silent counts as dead."""
        script = ScriptedServer(self.clock)
        script.connected = {"version": "1.2", "heart-beat": "10000,10000"}
        self.server.site = script
        client = self.connect()
        self.server.advance(19)
        self.assertTrue(client.is_connected)
        self.server.advance(1)
        self.assertEqual([reason.code for reason in self.ends], ["heartbeat-timeout"])

    def test_never(self) -> None:
        """Without heart-beats nothing is sent, and silence is no harm."""
        self.settings = replace(self.settings, heartbeat=(0, 0))
        script = ScriptedServer(self.clock)
        script.connected = {"version": "1.2", "heart-beat": "10000,10000"}
        self.server.site = script
        client = self.connect()
        sent = len(script.binary)
        self.server.advance(3600)
        self.assertTrue(client.is_connected)
        self.assertEqual(len(script.binary), sent)


class RenewalTests(ClientCase):
    """A session outlives its token."""

    def test_renewal(self) -> None:
        """A fresh token is shown a minute before the end, and each time again."""
        tokens: list[float] = []

        def token() -> str:
            tokens.append(self.clock.seconds() - NOW)
            return self.token(lifetime=600)

        client = self.connect(token)
        self.server.advance(539)
        self.assertEqual(tokens, [0])
        self.server.advance(1)
        self.assertEqual(tokens, [0, 540])
        self.assertEqual(client.expires_at, NOW + 1140)
        self.server.advance(3600)
        self.assertTrue(client.is_connected)
        self.assertEqual(len(tokens), 8)

    def test_short_token(self) -> None:
        """A token that is good for less than two minutes is renewed halfway."""
        client = self.connect(lambda: self.token(lifetime=20))
        self.server.advance(11)
        self.assertEqual(client.expires_at, NOW + 30)
        self.server.advance(600)
        self.assertTrue(client.is_connected)

    def test_no_fresh_token(self) -> None:
        """No token is shown twice; the session ends with the last one."""
        shown: list[Frame] = []

        class Renewals(Interceptor):
            def pre_send(self, frame: Frame, session: Any) -> Frame:
                if frame.headers.get("destination") == "/session/token":
                    shown.append(frame)
                return frame

        self.serve(interceptors=[Renewals()])
        tokens = [self.token(lifetime=100), self.token(lifetime=200)]
        self.connect(lambda: tokens.pop(0) if len(tokens) > 1 else tokens[0])
        self.server.advance(201)
        (reason,) = self.ends
        self.assertEqual((reason.code, reason.close_code), ("token-expired", 4401))
        self.assertEqual(len(shown), 1)

    def test_tries_again(self) -> None:
        """When there is no token to be had, that is logged, and tried again until the end."""
        answers: list[Any] = [self.token(lifetime=600)]
        client = self.connect(lambda: answers.pop(0))
        answers += [fail(ZeroDivisionError()), self.token(lifetime=6000)]
        self.server.advance(650)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(client.is_connected)
        self.assertEqual(client.expires_at, NOW + 6000)

    def test_another_subject(self) -> None:
        """A token of somebody else ends the session, for good."""
        tokens = [self.token(lifetime=600), self.token("bob")]
        self.connect(lambda: tokens.pop(0))
        self.server.advance(541)
        (reason,) = self.ends
        self.assertEqual((reason.code, reason.close_code), ("subject-mismatch", 4409))
        self.assertTrue(reason.is_final)

    def test_ends_meanwhile(self) -> None:
        """A token that is being waited for is not wanted any more when the session ends."""
        cancelled: list[Deferred[str]] = []
        waiting: Deferred[str] = Deferred(cancelled.append)
        answers: list[Any] = [self.token(lifetime=600), waiting]
        client = self.connect(lambda: answers.pop(0))
        self.server.advance(541)
        self.server.result_of(client.disconnect())
        self.assertEqual(cancelled, [waiting])


class BadServerTests(ClientCase):
    """A server that breaks the specification, or does not do what it has to."""

    def setUp(self) -> None:
        super().setUp()
        self.script = ScriptedServer(self.clock)
        self.server.site = self.script

    def reason(self) -> Disconnected:
        """Why the session is over."""
        self.server.flush()
        (reason,) = self.ends
        return reason

    def test_malformed(self) -> None:
        """Octets that are no frame end the session."""
        self.connect()
        self.script.send_octets(b"NONSENSE\n\n\0")
        self.assertEqual(self.reason().code, "malformed")

    def test_large(self) -> None:
        """A frame beyond the limit ends the session."""
        self.settings = replace(self.settings, frame=1000)
        self.connect()
        headers = {"destination": "/a", "message-id": "1", "subscription": "1"}
        self.script.send(Frame("MESSAGE", headers, bytes(1000)))
        self.assertEqual(self.reason().code, "too-large")

    def test_error_without_close(self) -> None:
        """After an ERROR the server has so long to close; what it meant is known all the same."""
        client = self.connect()
        self.script.send(Frame("ERROR", {"message": "No", "code": "revoked"}, b"Because."))
        self.server.flush()
        self.assertFalse(client.is_connected)
        self.assertEqual(self.ends, [])
        self.server.advance(5)
        reason = self.reason()
        self.assertEqual((reason.code, reason.close_code), ("revoked", 4403))
        self.assertEqual(reason.explanation, "Because.")

    def test_strange_error(self) -> None:
        """What is no slug is no code; the server's words are kept, in part, out of the text."""
        self.connect()
        self.script.send(Frame("ERROR", {"code": "<b>", "retry-after": "7"}, b"hunter2" * 1000))
        self.server.advance(5)
        reason = self.reason()
        self.assertEqual(reason.code, "unknown")
        self.assertEqual(reason.retry_after, 7)
        self.assertNotIn("hunter2", str(reason))
        self.assertEqual(len(reason.explanation or ""), 1000)

    def test_no_end(self) -> None:
        """A server that neither closes nor hangs up after DISCONNECT is left after a while."""
        client = self.connect()
        leaving = client.disconnect()
        self.server.advance(4)
        self.assertNoResult(leaving)
        self.server.advance(1)
        self.assertIsNone(self.successResultOf(leaving))
        self.assertEqual(self.reason().code, "disconnected")

    def test_message_after_disconnect(self) -> None:
        """What comes after DISCONNECT is not for anybody."""
        client = self.connect()
        client.subscribe("/topic/x", self.fail).addErrback(lambda _: None)
        client.disconnect()
        headers = {"destination": "/topic/x", "message-id": "1", "subscription": "1"}
        self.script.send(Frame("MESSAGE", headers))
        self.server.advance(5)
        self.assertEqual(self.reason().code, "disconnected")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_close_without_hanging_up(self) -> None:
        """So is one that closes the WebSocket and keeps the connection."""
        self.connect()
        # Autobahn would hang up after the answer.
        self.script.websocket.dropConnection = lambda abort=False: None
        self.script.websocket.sendCloseFrame(1012)
        self.server.advance(4)
        self.assertEqual(self.ends, [])
        self.server.advance(1)
        reason = self.reason()
        self.assertEqual((reason.code, reason.close_code), ("closed", 1012))

    def test_close_alone(self) -> None:
        """A close without an ERROR counts by its status."""
        self.connect()
        self.script.websocket.sendCloseFrame(4403)
        self.assertTrue(self.reason().is_final)

    def test_unasked(self) -> None:
        """Receipts and messages that nobody waits for are passed over."""
        client = self.connect()
        self.script.send(Frame("RECEIPT", {"receipt-id": "77"}))
        headers = {"destination": "/a", "message-id": "1", "subscription": "77"}
        self.script.send(Frame("MESSAGE", headers, b"hello"))
        self.server.flush()
        self.assertTrue(client.is_connected)

    def test_text_and_binary(self) -> None:
        """A frame that is no UTF-8 goes out as a binary message, every other one as text."""
        client: StompClient = self.connect()
        for body in ("text", b"\xff"):
            client.send("/topic/x", body).addErrback(lambda _: None)
        self.server.flush()
        self.assertEqual(self.script.binary[-2:], [False, True])

    def test_bad_end(self) -> None:
        """A time of expiry that is none is no reason to renew, or to fail."""
        self.script.connected = {"version": "1.2", "session-expires": "tomorrow"}
        client = self.connect()
        self.assertIsNone(client.expires_at)
        self.server.advance(7200)
        self.assertTrue(client.is_connected)
