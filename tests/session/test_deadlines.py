"""Tests of stompauth.session.deadlines."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.session.deadlines import Deadlines
from stompauth.session.wheel import TimerWheel


class SomeDeadlines(Deadlines):
    """Two of them."""

    __slots__ = names = ("a", "b")


class DeadlinesTests(SynchronousTestCase):
    """Named times pass in their order, on a single delayed call."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.passed: list[str] = []
        self.wheel = TimerWheel(self.clock)
        self.deadlines = SomeDeadlines(self.wheel, self)

    def deadline_passed(self, name: str) -> None:
        """Note what passes."""
        self.passed.append(name)

    def test_order(self) -> None:
        """The sooner passes sooner, whichever was set first; one call at a time."""
        self.deadlines.set("b", 2)
        self.deadlines.set("a", 1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1)
        self.assertEqual(self.passed, ["a"])
        self.clock.advance(1)
        self.assertEqual(self.passed, ["a", "b"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_set_again(self) -> None:
        """Setting a name anew moves it, to and fro."""
        self.deadlines.set("a", 5)
        self.deadlines.set("a", 1)
        self.clock.advance(1)
        self.assertEqual(self.passed, ["a"])
        self.deadlines.set("a", 1)
        self.deadlines.set("a", 5)
        self.clock.advance(4.9)
        self.assertEqual(self.passed, ["a"])
        self.clock.advance(0.1)
        self.assertEqual(self.passed, ["a", "a"])

    def test_clear(self) -> None:
        """What is cleared does not pass, and leaves nothing on the clock."""
        self.deadlines.set("a", 1)
        self.deadlines.set("b", 2)
        self.deadlines.clear("a")
        self.assertFalse(self.deadlines.is_set("a"))
        self.clock.advance(1.5)
        self.assertEqual(self.passed, [])
        self.deadlines.clear_all()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_within_a_callback(self) -> None:
        """A callback may set its name anew, and clear one that is due as well."""

        passed = self.passed

        class Owner:
            def deadline_passed(self, name: str) -> None:
                passed.append(name)
                if len(passed) < 3:
                    deadlines.set("a", 1)
                deadlines.clear("b")

        deadlines = SomeDeadlines(self.wheel, Owner())
        deadlines.set("a", 1)
        deadlines.set("b", 1)
        self.clock.pump([1, 1, 1, 1])
        self.assertEqual(self.passed, ["a", "a", "a"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_other_name_sooner(self) -> None:
        """A callback that sets its name anew does not hold up another."""
        passed = self.passed

        class Owner:
            def deadline_passed(self, name: str) -> None:
                passed.append(name)
                deadlines.set(name, 10)

        deadlines = SomeDeadlines(self.wheel, Owner())
        deadlines.set("a", 1)
        deadlines.set("b", 2)
        self.clock.pump([1, 1])
        self.assertEqual(passed, ["a", "b"])

    def test_failing_callback(self) -> None:
        """A callback that fails is logged, and the other names pass all the same."""
        passed = self.passed

        class Owner:
            def deadline_passed(self, name: str) -> None:
                passed.append(name)
                if name == "a":
                    raise ZeroDivisionError

        deadlines = SomeDeadlines(self.wheel, Owner())
        deadlines.set("a", 1)
        deadlines.set("b", 1)
        self.clock.pump([1, 0])
        self.assertEqual(passed, ["a", "b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_set_and_cleared(self) -> None:
        """However often a name is set and cleared, the wheel holds one place for both."""
        self.deadlines.set("b", 3600)
        for _ in range(1000):
            self.deadlines.set("a", 30)
            self.deadlines.clear("a")
            self.clock.advance(0.1)
        self.assertEqual(len(self.wheel), 1)
        self.deadlines.clear_all()
        self.assertEqual((len(self.wheel), self.clock.getDelayedCalls()), (0, []))
        self.assertEqual(self.passed, [])
