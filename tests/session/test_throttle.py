"""Tests of stompauth.session.throttle."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stompauth.session.throttle import Throttle
from stompauth.settings import Limits
from tests.applications import Application, StompClient


class ThrottleTests(SynchronousTestCase):
    """RS-2: a burst, then a rate, of frames and of octets."""

    def setUp(self) -> None:
        self.throttle = Throttle(Limits(frames_per_second=10, bytes_per_second=1000), 100.0)

    def test_burst(self) -> None:
        """Two seconds' worth may come at once; what is over has to wait for its time."""
        self.throttle.frames -= 20
        self.assertEqual(self.throttle.delay(100), 0)
        self.throttle.frames -= 5
        self.assertEqual(self.throttle.delay(100), 0.5)
        self.assertEqual(self.throttle.delay(100.5), 0)

    def test_octets(self) -> None:
        """The worse of the two counts."""
        self.throttle.frames -= 21
        self.throttle.octets -= 3000
        self.assertEqual(self.throttle.delay(100), 1.0)

    def test_no_limit(self) -> None:
        """0 is no limit."""
        throttle = Throttle(Limits(frames_per_second=0, bytes_per_second=0), 100.0)
        throttle.frames -= 10**6
        throttle.octets -= 10**9
        self.assertEqual(throttle.delay(100), 0)
        self.assertFalse(throttle.is_out_of_patience(10**6))

    def test_clock_set_back(self) -> None:
        """A wall clock that is set back holds nobody up."""
        self.throttle.frames -= 25
        self.assertEqual(self.throttle.delay(100 - 3600), 0.5)
        self.assertEqual(self.throttle.delay(100.5 - 3600), 0)

    def test_patience(self) -> None:
        """Who waits again and again for a minute is out; a real pause sets it right."""
        for second in range(61):
            self.throttle.frames -= 30
            self.throttle.delay(100.0 + second)
        self.assertTrue(self.throttle.is_out_of_patience(160))
        self.throttle = Throttle(Limits(frames_per_second=10), 100.0)
        self.throttle.frames -= 30
        self.throttle.delay(100)
        self.assertEqual(self.throttle.delay(110), 0)
        self.throttle.frames -= 30
        self.throttle.delay(170)
        self.assertFalse(self.throttle.is_out_of_patience(170))


class ThrottledSessionTests(SynchronousTestCase):
    """Who sends too fast is read more slowly, loses nothing, and is cut off if it goes on."""

    def setUp(self) -> None:
        self.application = Application(limits=Limits(frames_per_second=10, inbound_waiting=4))
        self.client = self.application.connect()
        self.calls: list[str] = []
        transport = self.client.websocket.socket.transport
        self.patch(transport, "pauseProducing", lambda: self.calls.append("pause"))
        self.patch(transport, "resumeProducing", lambda: self.calls.append("resume"))

    def burst(self, client: StompClient, frames: int) -> None:
        frame = "SEND\ndestination:/queue/work/x\nreceipt:r\n\n\0"
        client.websocket.send(frame * frames)

    def test_pause(self) -> None:
        """Reading pauses at once, and goes on when the debt is paid; every frame is served."""
        self.burst(self.client, 40)
        served = len(self.client.frames())
        self.assertLess(served, 25)
        self.assertEqual(self.calls, ["pause"])
        self.application.clock.pump([0.1] * 30)
        self.assertEqual(served + len(self.client.frames()), 40)
        self.assertEqual(self.calls, ["pause", "resume"])

    def test_others(self) -> None:
        """RS-3: another session is served meanwhile."""
        self.burst(self.client, 40)
        other = self.application.connect("bob")
        self.burst(other, 5)
        self.assertEqual(len(other.frames()), 5)

    def test_going_on(self) -> None:
        """After a minute of it the session ends with limit."""
        for _ in range(62):
            self.burst(self.client, 15)
            self.application.clock.advance(1)
        frames = self.client.frames()
        self.assertEqual(frames[-1].headers.get("code"), "limit")
        self.assertEqual(self.client.close_code, 4429)

    def test_timer_ends(self) -> None:
        """RS-4: a throttled session that breaks off leaves no timer."""
        self.burst(self.client, 40)
        self.client.websocket.socket.lose()
        self.application.clock.advance(20)
        self.assertEqual(self.application.clock.getDelayedCalls(), [])
