"""Tests of stompauth.broker.interests; the races are in test_distributed_model.py."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from stompauth.broker.interests import Interests
from stompauth.errors import Unavailable


class InterestsTests(SynchronousTestCase):
    """What a bus is asked for."""

    def setUp(self) -> None:
        self.asked: list[str] = []
        self.confirmations: list[Deferred[None]] = []
        self.interests: Interests[str] = Interests(
            self._subscribe, lambda key: self.asked.append(f"-{key}")
        )

    def _subscribe(self, key: str) -> Deferred[None]:
        self.asked.append(key)
        self.confirmations.append(Deferred())
        return self.confirmations[-1]

    def test_once(self) -> None:
        """Those who come while the bus is being asked wait with the first; later ones do not."""
        waiting = [self.interests.add("x", "a"), self.interests.add("x", "b")]
        self.assertEqual(self.asked, ["x"])
        self.confirmations[0].callback(None)
        for each in waiting:
            assert each is not None
            self.successResultOf(each)
        self.assertIsNone(self.interests.add("x", "c"))
        self.assertEqual(self.asked, ["x"])

    def test_last(self) -> None:
        """The last to leave takes the interest along; nobody leaves twice."""
        for holder in "ab":
            self.interests.add("x", holder)
        self.interests.remove("a")
        self.interests.remove("a")
        self.assertEqual(self.asked, ["x"])
        self.interests.remove("b")
        self.assertEqual(self.asked, ["x", "-x"])
        self.assertEqual(len(self.interests), 0)

    def test_stale_confirmation(self) -> None:
        """A confirmation of what was left meanwhile is none of what was asked for after that."""
        self.interests.add("x", "a")
        self.interests.remove("a")
        waiting = self.interests.add("x", "b")
        assert waiting is not None
        self.confirmations[0].callback(None)
        self.assertNoResult(waiting)
        self.confirmations[1].callback(None)
        self.successResultOf(waiting)

    def test_failure(self) -> None:
        """Where the bus fails, all who wait hear of it, and the next one asks again."""
        waiting = [self.interests.add("x", "a"), self.interests.add("x", "b")]
        self.confirmations[0].errback(Unavailable("away"))
        for each in waiting:
            assert each is not None
            self.failureResultOf(each, Unavailable)
        self.assertNotIn("a", self.interests)
        self.interests.add("x", "a")
        self.assertEqual(self.asked, ["x", "x"])

    def test_clear(self) -> None:
        """All are forgotten at once; those who wait are left to the bus, the others returned."""
        self.interests.add("x", "a")
        self.confirmations[0].callback(None)
        waiting = self.interests.add("y", "b")
        assert waiting is not None
        self.assertEqual(self.interests.clear(), ["a"])
        self.assertEqual(self.asked, ["x", "y"])
        self.interests.remove("a")
        self.interests.remove("b")
        self.assertEqual(self.asked, ["x", "y"])
        self.confirmations[1].errback(Unavailable("away"))
        self.failureResultOf(waiting, Unavailable)

    def test_callbacks_leave(self) -> None:
        """Whoever is told may make another leave that has not been told."""
        first = self.interests.add("x", "a")
        second = self.interests.add("x", "b")
        assert first is not None
        assert second is not None
        first.addCallback(lambda _: self.interests.remove("b"))
        self.confirmations[0].callback(None)
        self.successResultOf(second)
        self.assertNotIn("b", self.interests)
        self.assertEqual(self.asked, ["x"])
