"""Tests of stompauth.session.drain."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from stompauth.interceptors.interceptor import Interceptor
from stompauth.session.drain import MIN_RATE
from stompauth.settings import Limits, TicketSettings
from stompauth.stomp.frame import Frame
from tests.applications import Application, StompClient, token
from tests.wire import WebSocket, post_token


class Hold(Interceptor):
    """Makes SENDs wait."""

    def __init__(self) -> None:
        self.held: list[Deferred[Frame | None]] = []

    def pre_send(self, frame: Frame, session: Any) -> Any:
        if frame.command != "SEND":
            return frame
        self.held.append(Deferred())
        return self.held[-1]


class DrainTests(SynchronousTestCase):
    """OP-4: a server that stops sends its clients elsewhere, a few at a time."""

    def setUp(self) -> None:
        self.hold = Hold()
        self.application = Application(
            interceptors=[self.hold],
            limits=Limits(sessions_per_user=0, handshake_timeout=0),
            ticket=TicketSettings(rate=0),
            drain_timeout=10,
        )
        self.stompauth = self.application.stompauth
        self.clock = self.application.clock

    def connect(self, count: int) -> list[StompClient]:
        return [self.application.connect() for _ in range(count)]

    def still_here(self, clients: list[StompClient]) -> list[StompClient]:
        return [client for client in clients if client.close_code is None]

    def assert_drained(self, client: StompClient) -> None:
        self.assertEqual(client.frames()[-1].headers["code"], "drain")
        self.assertEqual(client.close_code, 1012)

    def test_few(self) -> None:
        """A few are told at once, and nobody waits for the time to pass."""
        clients = self.connect(3)
        self.successResultOf(self.stompauth.drain())
        for client in clients:
            self.assert_drained(client)

    def test_pace(self) -> None:
        """Many are told evenly, no more in a second than it takes, and all within the time."""
        clients = self.connect(6 * MIN_RATE)
        drained = self.stompauth.drain()
        here = len(clients)
        for second in range(1, 10):
            self.clock.pump([0.1] * 10)
            left = len(self.still_here(clients))
            self.assertLessEqual(here - left, MIN_RATE + 5, f"in second {second}")
            here = left
        self.assertEqual(here, 0)
        self.successResultOf(drained)

    def test_short_time(self) -> None:
        """Where the time is short for so many, the pace is as quick as that takes."""
        clients = self.connect(4 * MIN_RATE)
        drained = self.stompauth.drain(1)
        self.assertLess(len(self.still_here(clients)), len(clients))
        self.assertNoResult(drained)
        self.clock.pump([0.1] * 10)
        self.successResultOf(drained)
        self.assertEqual(self.still_here(clients), [])

    def test_busy(self) -> None:
        """Who waits for a receipt gets it first; what he sent after that is not looked at."""
        (client,) = self.connect(1)
        for n in (1, 2):
            client.send("SEND", destination="/queue/work/x", receipt=str(n))
        drained = self.stompauth.drain()
        self.clock.advance(5)
        self.assertIsNone(client.close_code)
        self.assertNoResult(drained)
        self.hold.held[0].callback(Frame("SEND", {"destination": "/queue/work/x"}))
        receipt, error = client.frames()
        self.assertEqual(receipt.headers, {"receipt-id": "1"})
        self.assertEqual((error.headers["code"], client.close_code), ("drain", 1012))
        self.clock.advance(0.1)
        self.successResultOf(drained)
        self.assertEqual(len(self.hold.held), 1)

    def test_too_busy(self) -> None:
        """Who is busy beyond the time ends all the same."""
        (client,) = self.connect(1)
        client.send("SEND", destination="/queue/work/x", receipt="1")
        drained = self.stompauth.drain()
        self.clock.pump([0.1] * 101)
        self.successResultOf(drained)
        self.assert_drained(client)

    def test_nobody_comes_in(self) -> None:
        """Tickets and handshakes get 503 at once, and are told to come back at various times."""
        ticket = self.application.ticket()
        self.connect(1)
        self.stompauth.drain()
        site = self.application.site
        self.assertEqual(WebSocket(site, f"/stomp?ticket={ticket}").status, 503)
        answers = [post_token(site, token()) for _ in range(50)]
        self.assertEqual({answer.status for answer in answers}, {503})
        delays = {int(answer.headers["retry-after"]) for answer in answers}
        self.assertGreater(len(delays), 1)
        self.assertLessEqual(delays, set(range(1, 11)))

    def test_stop(self) -> None:
        """The stop of the service drains, those too that have not sent CONNECT."""
        (client,), silent = self.connect(1), self.application.open()
        stopped = self.stompauth.service().stopService()
        for each in (client, silent):
            self.assert_drained(each)
            self.assertNoResult(stopped)
            each.websocket.close(1012)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
