"""Heart-beats: what is agreed upon, and when."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stompauth.errors import RemoteProtocolError
from stompauth.stomp.heartbeat import HeartBeat, negotiate, parse, write


class ParseTests(SynchronousTestCase):
    """ST-13: the header of the peer."""

    def test_two_numbers(self) -> None:
        """Both in milliseconds; an absent header is never, never."""
        self.assertEqual(parse("4000,10000"), (4000, 10000))
        self.assertEqual(parse("0,0"), (0, 0))
        self.assertEqual(parse("999999999,007"), (999999999, 7))
        self.assertEqual(parse(None), (0, 0))

    def test_anything_else_is_refused(self) -> None:
        """ST-13: two decimals of at most nine ASCII digits, and nothing around them."""
        for value in (
            "", ",", "1", "1,", ",1", "1,2,3", "1 ,2", "1, 2", " 1,2", "1,2 ", "1,2\n", "+1,2",
            "-1,2", "1.5,2", "1_0,2", "1e3,2", "\u0661,2", "\u00b2,2", "1000000000,0", "a,b",
        ):  # fmt: skip
            error = self.assertRaises(RemoteProtocolError, parse, value)
            self.assertEqual(error.code, "bad-header")


class WriteTests(SynchronousTestCase):
    """The header of ours."""

    def test_milliseconds(self) -> None:
        """Seconds become whole milliseconds; below a second it is one, and 0 stays never."""
        self.assertEqual(write((10, 2.5)), "10000,2500")
        self.assertEqual(write((0, 0)), "0,0")
        self.assertEqual(write((0.01, 1)), "1000,1000")


class NegotiateTests(SynchronousTestCase):
    """STOMP 1.2, "Heart-beating": each direction by itself."""

    def agreed(self, ours: tuple[float, float], theirs: tuple[int, int]) -> tuple[float, float]:
        """Return what both agree upon, as seconds for what we send and expect."""
        heartbeat = negotiate(ours, theirs)
        return heartbeat.send_every, heartbeat.expect_every

    def test_slower_one_decides(self) -> None:
        """An interval is the longer of what one can and the other wants."""
        self.assertEqual(self.agreed((10, 10), (10000, 10000)), (10, 10))
        self.assertEqual(self.agreed((10, 10), (20000, 30000)), (30, 20))
        self.assertEqual(self.agreed((10, 20), (1000, 5000)), (10, 20))

    def test_either_end_can_say_never(self) -> None:
        """A direction needs one that can send and one that wants to receive."""
        self.assertEqual(self.agreed((10, 10), (0, 0)), (0, 0))
        self.assertEqual(self.agreed((10, 10), (0, 5000)), (10, 0))
        self.assertEqual(self.agreed((10, 10), (5000, 0)), (0, 10))
        self.assertEqual(self.agreed((0, 10), (5000, 5000)), (0, 10))
        self.assertEqual(self.agreed((10, 0), (5000, 5000)), (10, 0))

    def test_floor(self) -> None:
        """ST-13: nobody makes us send, or makes itself send, more than once a second."""
        self.assertEqual(self.agreed((0.1, 0.1), (1, 1)), (1, 1))

    def test_rare_promises_are_not_waited_for(self) -> None:
        """ST-13: we expect something within a minute, within what we ask for, or not at all."""
        self.assertEqual(self.agreed((10, 10), (60000, 10000)), (10, 60))
        self.assertEqual(self.agreed((10, 10), (60001, 10000)), (10, 0))
        self.assertEqual(self.agreed((10, 10), (999999999, 999999999)), (999999.999, 0))
        self.assertEqual(self.agreed((10, 90), (80000, 0)), (0, 90))
        self.assertEqual(self.agreed((10, 90), (91000, 0)), (0, 0))


class HeartBeatTests(SynchronousTestCase):
    """When it is time."""

    def begun(self, send: float, expect: float, now: float, jitter: float = 0.0) -> HeartBeat:
        """Return the heart-beats of a session that begins now."""
        heartbeat = HeartBeat(send, expect, jitter)
        heartbeat.sent(now)
        heartbeat.received(now)
        return heartbeat

    def test_sends_within_the_interval(self) -> None:
        """It is due after three quarters, so that it arrives within what was promised."""
        heartbeat = self.begun(10, 0, 100)
        self.assertFalse(heartbeat.send_due(107.4))
        self.assertTrue(heartbeat.send_due(107.5))
        heartbeat.sent(107.5)
        self.assertFalse(heartbeat.send_due(114))
        self.assertTrue(heartbeat.send_due(115))

    def test_any_traffic_puts_it_off(self) -> None:
        """What was sent counts for sending alone, and what was received for receiving."""
        heartbeat = self.begun(10, 10, 0)
        heartbeat.received(7)
        self.assertTrue(heartbeat.send_due(8))
        heartbeat.sent(19)
        self.assertFalse(heartbeat.is_dead(26.9))
        self.assertTrue(heartbeat.is_dead(27))

    def test_tolerance(self) -> None:
        """The peer is dead after two intervals of silence, not before."""
        heartbeat = self.begun(0, 10, 100)
        self.assertFalse(heartbeat.is_dead(119.9))
        self.assertTrue(heartbeat.is_dead(120))

    def test_never(self) -> None:
        """0,0 is never due and never dead."""
        heartbeat = self.begun(0, 0, 0)
        self.assertFalse(heartbeat.send_due(1e9))
        self.assertFalse(heartbeat.is_dead(1e9))
        self.assertIsNone(heartbeat.next_check(1e9))

    def test_nothing_before_the_beginning(self) -> None:
        """Before the first sent and received there is nothing to count from."""
        heartbeat = HeartBeat(10, 10)
        self.assertFalse(heartbeat.send_due(1e9))
        self.assertFalse(heartbeat.is_dead(1e9))
        self.assertIsNone(heartbeat.next_check(1e9))

    def test_next_check(self) -> None:
        """A timer set for that long wakes at the next thing that may be due."""
        heartbeat = self.begun(10, 10, 100)
        self.assertEqual(heartbeat.next_check(101), 6.5)
        heartbeat.sent(105)
        heartbeat.sent(119)
        self.assertEqual(heartbeat.next_check(119), 1)
        self.assertEqual(heartbeat.next_check(500), 0)
        self.assertEqual(self.begun(10, 0, 100).next_check(100), 7.5)
        self.assertEqual(self.begun(0, 10, 100).next_check(100), 20)

    def test_jitter(self) -> None:
        """ST-13: sessions that went silent together beat apart, and none beats late."""
        self.assertEqual(self.begun(10, 0, 0, jitter=1).next_check(0), 5)
        self.assertEqual(self.begun(10, 0, 0, jitter=0.5).next_check(0), 6.25)

    @settings(deadline=None, max_examples=100)
    @given(
        send=st.floats(1, 120),
        expect=st.floats(1, 120),
        jitter=st.floats(0, 1),
        now=st.floats(0, 4e9),
        steps=st.lists(st.booleans(), max_size=20),
    )
    def test_one_timer_is_enough(
        self, send: float, expect: float, jitter: float, now: float, steps: list[bool]
    ) -> None:
        """Who sleeps until the next check keeps every promise, and sees a dead peer in time."""
        heartbeat = self.begun(send, expect, now, jitter)
        sent = received = now
        for peer_beats in steps:
            delay = heartbeat.next_check(now)
            assert delay is not None
            now += delay
            if peer_beats:
                received = now
                heartbeat.received(now)
            if heartbeat.is_dead(now):
                self.assertGreaterEqual(now - received, 2 * expect - 1e-5)
                return
            self.assertLess(now - received, 2 * expect + 1e-5)
            self.assertLess(now - sent, send)
            if heartbeat.send_due(now):
                sent = now
                heartbeat.sent(now)
