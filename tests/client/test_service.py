"""A session that is made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from stompauth.authorization.rules import Rules, allow, deny
from stompauth.client.service import StompClientService
from stompauth.errors import ClientError, ConnectFailed, FrameRefused
from stompauth.settings import TicketSettings
from stompauth.stomp.frame import Frame
from tests.client.servers import RULES, ClientCase, ScriptedServer, canned

if TYPE_CHECKING:
    from stompauth.client.stomp_client import StompClient
    from stompauth.client.subscription import Message


class ServiceCase(ClientCase):
    """Has a service."""

    def setUp(self) -> None:
        super().setUp()
        self.messages: list[Message] = []
        self.given_up: list[ClientError] = []
        self.tokens = 0
        self.service = self.make_service()

    def fresh_token(self) -> str:
        """A token, and count it."""
        self.tokens += 1
        return self.token()

    def make_service(self, **arguments: Any) -> StompClientService:
        """A service whose delays are not random; events go to lists of the test."""
        self.notices: list[FrameRefused] = []
        return StompClientService(
            self.clock,
            self.server.url,
            arguments.pop("token", self.fresh_token),
            settings=self.settings,
            endpoints=self.server,
            on_notice=self.notices.append,
            on_give_up=self.given_up.append,
            random=lambda: 0.5,
            **arguments,
        )

    def start(self) -> None:
        """Start, and let happen what happens at once."""
        self.service.startService()
        self.server.flush()

    def client(self) -> StompClient:
        """The session that there is now."""
        return self.server.result_of(self.service.when_connected())

    def break_off(self) -> None:
        """Break the connection."""
        self.server._pumps[-1].serverIO.loseConnection()
        self.server.flush()
        self.assertIsNone(self.service.client)

    def publish(self, body: str) -> None:
        """Send to the lobby."""
        self.application.publish("/topic/rooms/lobby", body)
        self.server.flush()

    def texts(self) -> list[str]:
        """What has come."""
        return [message.text for message in self.messages]

    def delays(self, seconds: float) -> list[float]:
        """Let time pass without a server; after how long each attempt came."""
        attempts: list[float] = []
        begun = self.clock.seconds()
        self.service._connector._token = lambda: attempts.append(self.clock.seconds()) or "abc"
        self.server.advance(seconds)
        return [
            round(now - before, 3)
            for before, now in zip([begun, *attempts], attempts, strict=False)
        ]


class ConnectingTests(ServiceCase):
    """Starting and stopping."""

    def test_interface(self) -> None:
        """It is a service."""
        verifyObject(IService, self.service)

    def test_start(self) -> None:
        """It connects when it starts, not before; who has waited gets the session."""
        waiting = self.service.when_connected()
        self.server.flush()
        self.assertNoResult(waiting)
        self.start()
        client = self.successResultOf(waiting)
        self.assertIs(client, self.service.client)
        self.assertEqual(client.user, "alice")

    def test_asked_again(self) -> None:
        """Who has just been told may ask once more, then and there."""
        asked: list[Deferred[StompClient]] = []
        self.service.when_connected().addCallback(
            lambda _: asked.append(self.service.when_connected())
        )
        self.start()
        self.assertIs(self.successResultOf(asked[0]), self.service.client)

    def test_stop(self) -> None:
        """It ends the session in good order, and nothing is left."""
        self.start()
        client = self.client()
        self.server.result_of(self.service.stopService())
        assert client.reason is not None
        self.assertEqual(client.reason.code, "disconnected")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.server.advance(600)
        self.assertEqual(len(self.application.sessions), 0)
        self.assertEqual(self.given_up, [])

    def test_stop_connecting(self) -> None:
        """It can be stopped while it connects, or waits to; who waits for a session is told."""
        waiting_for_token: Deferred[str] = Deferred()
        for token in (lambda: waiting_for_token, lambda: "abc"):
            self.service = self.make_service(token=token)
            self.start()
            waiting = self.service.when_connected()
            self.assertIsNone(self.server.result_of(self.service.stopService()))
            self.failureResultOf(waiting, CancelledError)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_restart(self) -> None:
        """It can be started again."""
        self.start()
        self.server.result_of(self.service.stopService())
        self.start()
        self.assertTrue(self.client().is_connected)


class SubscribingTests(ServiceCase):
    """What is subscribed to stays so."""

    def test_before(self) -> None:
        """What is subscribed to before the start is so when there is a session."""
        self.service.subscribe("/topic/rooms/lobby", self.messages.append)
        self.start()
        self.publish("1")
        self.assertEqual(self.texts(), ["1"])

    def test_after(self) -> None:
        """And what is subscribed to later is so at once."""
        self.start()
        self.service.subscribe("/topic/rooms/lobby", self.messages.append)
        self.server.flush()
        self.publish("1")
        self.assertEqual(self.texts(), ["1"])

    def test_reconnect(self) -> None:
        """Both are so again in a new session, once each, with mode and headers as before."""
        self.service.subscribe("/topic/rooms/lobby", self.messages.append)
        self.start()
        taken: list[Message] = []
        self.service.subscribe(
            "/queue/work/a",
            taken.append,
            ack="client-individual",
            headers={"prefetch-count": "1"},
        )
        self.server.flush()
        self.break_off()
        self.server.advance(1)
        self.assertEqual(self.tokens, 2)
        self.publish("1")
        self.assertEqual(self.texts(), ["1"])
        for body in ("a", "b"):
            self.application.publish("/queue/work/a", body)
        self.server.flush()
        self.assertEqual([message.text for message in taken], ["a"])
        self.server.result_of(taken[0].ack())
        self.assertEqual([message.text for message in taken], ["a", "b"])

    def test_all_before_anybody_knows(self) -> None:
        """Who waits for a session gets it when everything is subscribed to."""
        self.service.subscribe("/topic/rooms/lobby", self.messages.append)
        script = ScriptedServer(self.clock)
        self.server.site = script
        self.start()
        waiting = self.service.when_connected()
        self.server.flush()
        self.assertNoResult(waiting)
        (receipt,) = [f.headers["receipt"] for f in script.frames if "receipt" in f.headers]
        script.send(Frame("RECEIPT", {"receipt-id": receipt}))
        self.server.flush()
        self.successResultOf(waiting)

    def test_unsubscribe(self) -> None:
        """What is unsubscribed stays so."""
        subscription = self.service.subscribe("/topic/rooms/lobby", self.messages.append)
        self.start()
        self.server.result_of(subscription.unsubscribe())
        self.publish("1")
        self.break_off()
        self.server.advance(2)
        self.publish("2")
        self.assertEqual(self.texts(), [])
        self.assertIsNone(self.successResultOf(subscription.unsubscribe()))

    def test_unsubscribe_before(self) -> None:
        """It may be so before the server knows of it."""
        subscription = self.service.subscribe("/topic/rooms/lobby", self.messages.append)
        self.start()
        later = self.service.subscribe("/topic/rooms/lobby", self.messages.append)
        later.unsubscribe()
        self.server.result_of(subscription.unsubscribe())
        self.publish("1")
        self.assertEqual(self.texts(), [])
        (session,) = self.application.sessions
        self.assertEqual([each.id for each in session.subscriptions], ["errors"])

    def test_refused(self) -> None:
        """What the server refuses by a notice is dropped, and told; the rest stays."""
        self.service.subscribe("/topic/quiet/a", self.messages.append)
        self.service.subscribe("/topic/rooms/lobby", self.messages.append)
        self.start()
        self.client()
        self.break_off()
        self.server.advance(2)
        self.client()
        (refused,) = self.notices
        self.assertEqual((refused.code, refused.destination), ("access-denied", "/topic/quiet/a"))
        self.publish("1")
        self.assertEqual(self.texts(), ["1"])

    def test_taken_away(self) -> None:
        """What the server takes away later is dropped as well."""
        closed: list[bool] = []

        class Closing(Rules):
            def check(self, *arguments: Any) -> Any:
                rules = [deny("subscribe", "/topic/**", on_deny="notify")] if closed else RULES
                return Rules(rules).check(*arguments)

        self.serve(rules=Closing([]))
        self.service = self.make_service()
        self.service.subscribe("/topic/rooms/lobby", self.messages.append)
        self.start()
        self.client()
        closed.append(True)
        self.server.result_of(self.application.recheck())
        self.server.flush()
        self.assertEqual([notice.destination for notice in self.notices], ["/topic/rooms/lobby"])
        self.break_off()
        self.server.advance(2)
        self.client()
        self.assertEqual(len(self.notices), 1)

    def test_not_confirmed(self) -> None:
        """A server that does not confirm a subscription is left, and tried again."""
        self.service.subscribe("/topic/rooms/lobby", self.messages.append)
        script = ScriptedServer(self.clock)
        self.server.site = script
        self.start()
        waiting = self.service.when_connected()
        self.server.advance(30)
        self.assertNoResult(waiting)
        self.server.advance(1)
        connects = [frame for frame in script.frames if frame.command == "CONNECT"]
        self.assertEqual(len(connects), 2)
        self.assertEqual(len(self.server._pumps), 1)


class ReconnectingTests(ServiceCase):
    """When it comes back, and when not."""

    def test_backoff(self) -> None:
        """It waits 1, 2, 4 seconds and so on, and no longer than a minute."""
        self.start()
        self.break_off()
        self.assertEqual(self.delays(300), [1, 2, 4, 8, 16, 32, 60, 60, 60])

    def test_jitter(self) -> None:
        """Give or take a half, so that not all come at once."""
        delays = []
        for share in (0.0, 0.999):
            self.service._random = lambda share=share: share
            self.service._failures = 2
            delays.append(self.service._delay(1))
        self.assertEqual(delays[0], 2)
        self.assertAlmostEqual(delays[1], 6, places=2)

    def test_unstable(self) -> None:
        """A session that did not last is no reason to be quicker the next time."""
        self.start()
        for delay in (1, 2, 4):
            self.break_off()
            self.server.advance(delay - 0.1)
            self.assertIsNone(self.service.client)
            self.server.advance(0.1)
            self.client()

    def test_stable(self) -> None:
        """One that did is."""
        self.start()
        self.break_off()
        self.server.advance(1)
        self.client()
        self.server.advance(60)
        self.break_off()
        self.assertEqual(self.delays(4), [1, 2])

    def test_retry_after(self) -> None:
        """It does not come back before the server wants it to."""
        self.server.site = canned(
            b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 90\r\n\r\n"
        )
        self.start()
        self.server.advance(89)
        self.assertEqual(self.tokens, 1)
        self.server.advance(1)
        self.assertEqual(self.tokens, 2)

    def test_rate(self) -> None:
        """A limit on tickets ends when its time is over."""
        self.serve(ticket=TicketSettings(rate=0.02))
        self.service = self.make_service()
        self.start()
        self.break_off()
        self.server.advance(49)
        self.assertIsNone(self.service.client)
        self.server.advance(1)
        self.client()

    def test_server_comes_back(self) -> None:
        """After an orderly stop of the server it is there again, whatever came between."""
        site = self.server.site
        application = self.application.service()
        application.startService()
        self.start()
        self.server.result_of(application.stopService())
        self.server.advance(20)
        self.server.site = canned(b"")
        self.server.advance(20)
        self.assertIsNone(self.service.client)
        self.server.site = site
        application.startService()
        self.server.advance(60)
        self.assertTrue(self.client().is_connected)

    def test_token_fails(self) -> None:
        """When there is no token to be had, that is logged, and tried again."""
        answers: list[str] = []
        self.service = self.make_service(token=lambda: answers.pop())
        self.start()
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)
        answers.append(self.token())
        self.server.advance(1)
        self.assertTrue(self.client().is_connected)

    def test_bad_token(self) -> None:
        """A token that is not taken may be followed by one that is."""
        answers = ["abc", self.token()]
        self.service = self.make_service(token=lambda: answers.pop(0))
        self.start()
        self.server.advance(1)
        self.assertTrue(self.client().is_connected)

    def test_final_at_connect(self) -> None:
        """Turned away for good, it gives up; who waits for a session is told why."""
        self.start()
        self.break_off()
        waiting = self.service.when_connected()
        token = self.token()
        self.service._connector._token = lambda: token
        self.application.revoke(user="alice")
        self.server.advance(600)
        error = self.failureResultOf(waiting, ConnectFailed).value
        self.assertEqual(error.code, "revoked")
        self.assertEqual(self.given_up, [error])
        self.assertIs(self.service.failure, error)
        later = self.failureResultOf(self.service.when_connected(), ConnectFailed).value
        self.assertEqual(later.code, "revoked")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_final_later(self) -> None:
        """So it does when a session ends for good."""
        self.start()
        self.application.revoke(user="alice")
        self.server.advance(600)
        (error,) = self.given_up
        self.assertEqual((error.code, error.close_code), ("revoked", 4403))
        self.assertEqual(self.tokens, 1)

    def test_final_codes(self) -> None:
        """Of the close statuses three are final."""
        finals = set()
        for code in (1000, 1001, 1002, 1009, 1011, 1012, 1013, 4401, 4403, 4408, 4409, 4429):
            script = ScriptedServer(self.clock)
            self.server.site = script
            self.service = self.make_service()
            self.start()
            self.given_up.clear()
            script.websocket.sendCloseFrame(code)
            self.server.advance(0)
            finals |= {code for _ in self.given_up}
            self.service.stopService()
            self.server.advance(60)
        self.assertEqual(finals, {1002, 4403, 4409})

    def test_refused_for_good(self) -> None:
        """A subscription that ends each session ends the service."""
        self.serve(rules=Rules([allow("subscribe", "/topic/rooms/lobby")]))
        self.service = self.make_service()
        self.service.subscribe("/topic/rooms/cellar", self.messages.append)
        self.start()
        self.server.advance(600)
        self.assertEqual([error.code for error in self.given_up], ["access-denied"])
        self.assertEqual(self.tokens, 1)

    def test_starts_anew(self) -> None:
        """Who has mended it can start it again."""
        self.start()
        self.application.revoke(user="alice")
        self.server.advance(1)
        self.assertEqual(len(self.given_up), 1)
        self.server.result_of(self.service.stopService())
        self.start()
        self.assertTrue(self.client().is_connected)
        self.assertIsNone(self.service.failure)

    def test_stopped_in_time(self) -> None:
        """A service that is stopped just then does not give up."""
        self.start()
        self.application.revoke(user="alice")
        (pump,) = self.server._pumps
        self.clock.advance(0)
        pump.flush(advanceClock=False)
        self.assertIsNotNone(self.service.failure)
        self.service.stopService()
        self.server.flush()
        self.assertEqual(self.given_up, [])
