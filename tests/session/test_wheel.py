"""Tests of stompauth.session.wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.session.deadlines import Deadlines
from stompauth.session.wheel import COARSE, FAR, TICK, WOKEN, TimerWheel

if TYPE_CHECKING:
    from stompauth.session.wheel import Spoke


class Sleeping:
    """Sleeps once, and notes when it was woken."""

    def __init__(self, wheel: TimerWheel, at: float) -> None:
        self.wheel = wheel
        self.woken: list[float] = []
        self.spoke = wheel.add(self, at)

    def wake(self, spoke: Spoke) -> None:
        """Note it."""
        self.woken.append(self.wheel.clock.seconds())


class WheelTests(SynchronousTestCase):
    """Many sleep on one delayed call."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)

    def test_exact(self) -> None:
        """What is a moment ahead comes at its time, to the hundredth of a second."""
        sleeping = Sleeping(self.wheel, 0.01)
        self.clock.advance(0.009)
        self.assertEqual(sleeping.woken, [])
        self.clock.advance(0.01 - self.clock.seconds())
        self.assertEqual(sleeping.woken, [0.01])

    def test_many(self) -> None:
        """RS-3: of many that share a time one turn wakes some; the next ones go on, in order."""
        sleepers = [Sleeping(self.wheel, 0.5) for _ in range(2 * WOKEN + 2)]
        self.clock.advance(0.4)
        for woken in (WOKEN, 2 * WOKEN):
            (call,) = self.clock.getDelayedCalls()
            self.clock.calls.clear()
            self.clock.rightNow = max(self.clock.seconds(), 0.5)
            call.func()
            self.assertEqual([len(sleeper.woken) for sleeper in sleepers[:woken]], [1] * woken)
            self.assertEqual(len(self.wheel), len(sleepers) - woken)
        first, last = sleepers[-2:]
        self.wheel.remove(first, first.spoke)
        self.assertEqual((len(self.wheel), len(self.clock.getDelayedCalls())), (1, 1))
        self.wheel.remove(last, last.spoke)
        self.assertEqual((len(self.wheel), self.clock.getDelayedCalls()), (0, []))

    def test_shared_tick(self) -> None:
        """What is further ahead comes together, not sooner than it should and a tick later at most.

        Whole seconds are kept.
        """
        times = [9.95, 10.0, COARSE, 9.99]
        sleepers = [Sleeping(self.wheel, at) for at in times]
        self.clock.pump([0.001] * 10_001)
        for sleeper, at in zip(sleepers, times, strict=True):
            (woken,) = sleeper.woken
            self.assertTrue(at - 1e-6 <= woken <= at + TICK, (woken, at))
        self.assertEqual(sleepers[0].woken, sleepers[1].woken)
        self.assertEqual(sleepers[3].woken, sleepers[1].woken)

    def test_far(self) -> None:
        """What is far ahead is woken early, and shares its place with whatever is."""
        sleepers = [Sleeping(self.wheel, FAR + number / 7) for number in range(100)]
        self.assertEqual(len({id(sleeper.spoke) for sleeper in sleepers}), 1)
        self.clock.advance(FAR)
        self.assertEqual([len(sleeper.woken) for sleeper in sleepers], [1] * 100)

    def test_one_call(self) -> None:
        """There is one delayed call, for the next time, and none when nobody sleeps."""
        sleepers = [Sleeping(self.wheel, at) for at in (5, 0.5, 300, 2)]
        (call,) = self.clock.getDelayedCalls()
        self.assertEqual(call.getTime(), 0.5)
        self.wheel.remove(sleepers[1], sleepers[1].spoke)
        (call,) = self.clock.getDelayedCalls()
        self.assertEqual(call.getTime(), 2)
        for sleeper in sleepers:
            self.wheel.remove(sleeper, sleeper.spoke)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_removed_by_another(self) -> None:
        """Who is removed while others of the same time are woken is not woken any more.

        It may sleep again elsewhere, and in one place only.
        """
        woken = []

        class Owner:
            def deadline_passed(self, name: str) -> None:
                woken.append(self)
                second.clear_all()
                second.set("a", 5)
                second.clear("a")
                second.set("b", 20)

        first, second = TwoDeadlines(self.wheel, Owner()), TwoDeadlines(self.wheel, Owner())
        first.set("a", 1)
        second.set("a", 1)
        self.clock.advance(1)
        self.assertEqual((len(woken), len(self.wheel)), (1, 1))
        second.clear_all()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_once(self) -> None:
        """Who goes on for no time at all is woken in the next turn, not for ever in this one."""
        turns = []

        class Restless:
            def wake(inner, spoke: Spoke) -> None:  # noqa: N805
                turns.append(self.clock.seconds())
                self.wheel.add(inner, 0)

        self.wheel.add(Restless(), 0)
        (call,) = self.clock.getDelayedCalls()
        call.func()
        self.assertEqual(len(turns), 1)

    def test_no_garbage(self) -> None:
        """Of what was added and removed nothing stays, however often and at whatever times."""
        staying = Sleeping(self.wheel, 0.5)
        for number in range(10_000):
            sleeping = Sleeping(self.wheel, 1 + number / 11)
            self.wheel.remove(sleeping, sleeping.spoke)
        self.assertEqual(len(self.wheel), 1)
        self.assertLess(len(self.wheel._at), 20)
        self.wheel.remove(staying, staying.spoke)
        self.assertEqual(len(self.wheel._at), 0)


class TwoDeadlines(Deadlines):
    """Two of them."""

    __slots__ = names = ("a", "b")


#: What a run does to one of eight deadlines, or to the clock, which may be set back.
_STEPS = st.one_of(
    st.tuples(
        st.just("set"), st.integers(0, 7), st.sampled_from((0, 0.01, 0.3, 1, 7.5, 30, 99, 4000))
    ),
    st.tuples(st.sampled_from(("clear", "clear_all")), st.integers(0, 7), st.just(0)),
    st.tuples(
        st.just("advance"),
        st.just(0),
        st.sampled_from((0.01, 0.0625, 1, 5, 7, 29.9, 64, 5000, -90)),
    ),
)


class ModelTests(SynchronousTestCase):
    """Deadlines on a wheel pass as they would in the plainest of lists."""

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(_STEPS, max_size=60),
        st.sets(st.integers(0, 7)),
        st.sampled_from((0.0, 1795325258.3)),
    )
    def test_model(
        self, steps: list[tuple[str, int, float]], again: set[int], begin: float
    ) -> None:
        """One passes once, no sooner than it was set for and no later than a tick behind.

        Some are set again whenever they pass. At the end nothing is left on the clock.
        """
        clock = Clock()
        clock.rightNow = begin
        wheel = TimerWheel(clock)
        passed: list[int] = []
        model: dict[int, float] = {}
        renewed: dict[int, float] = {}

        class Owner:
            def __init__(self, first: int) -> None:
                self._first = first

            def deadline_passed(self, name: str) -> None:
                number = self._first + "ab".index(name)
                passed.append(number)
                if number in again:
                    deadlines[number // 2].set(name, 7.5)
                    renewed[number] = clock.seconds() + 7.5

        deadlines = [TwoDeadlines(wheel, Owner(2 * number)) for number in range(4)]
        for step, number, value in steps:
            mine, name = deadlines[number // 2], "ab"[number % 2]
            if step == "set":
                mine.set(name, value)
                model[number] = clock.seconds() + value
            elif step == "clear":
                mine.clear(name)
                model.pop(number, None)
            elif step == "clear_all":
                mine.clear_all()
                model.pop(number // 2 * 2, None)
                model.pop(number // 2 * 2 + 1, None)
            else:
                clock.advance(value)
                now = clock.seconds()
                due = {number for number, at in model.items() if at <= now}
                late = {number for number, at in model.items() if at < now - TICK}
                self.assertEqual(len(set(passed)), len(passed))
                self.assertTrue(late <= set(passed) <= due, (late, passed, due))
                for number in passed:
                    del model[number]
                passed.clear()
                model.update(renewed)
                renewed.clear()
            for number in range(8):
                is_set = deadlines[number // 2].is_set("ab"[number % 2])
                self.assertEqual(is_set, number in model)
            self.assertLessEqual(len(wheel), 4)
            self.assertLessEqual(len(clock.getDelayedCalls()), 1)
        for mine in deadlines:
            mine.clear_all()
        self.assertEqual((len(wheel), clock.getDelayedCalls()), (0, []))
