"""Tests of stompauth.cluster.requests."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stompauth.cluster import requests as requests_module
from stompauth.cluster.requests import TIMEOUT, CutOff, Requests
from stompauth.errors import Unavailable


class RequestsTests(SynchronousTestCase):
    """Answers are waited for, and not for ever."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.requests = Requests(self.clock)

    def tearDown(self) -> None:
        self.assertEqual((len(self.requests), self.clock.getDelayedCalls()), (0, []))

    def test_all_answer(self) -> None:
        """When all have answered there are the answers; the first of a node counts."""
        answers = self.requests.begin(1, ["a", "b"])
        self.requests.answered("a", 1, "x")
        self.requests.answered("a", 1, "y")
        self.requests.answered("c", 1, "z")
        self.requests.answered("b", 2, "z")
        self.assertNoResult(answers)
        self.requests.answered("b", 1, None)
        self.assertEqual(self.successResultOf(answers), {"a": "x", "b": None})

    def test_time_is_over(self) -> None:
        """Without one of the answers there is none."""
        answers = self.requests.begin(1, ["a", "b"])
        self.requests.answered("a", 1, "x")
        self.clock.advance(TIMEOUT)
        self.failureResultOf(answers, Unavailable)
        self.requests.answered("b", 1, "too late")

    def test_node_leaves(self) -> None:
        """A node that is gone has nothing to say."""
        answers = self.requests.begin(1, ["a", "b"])
        self.requests.answered("a", 1, "x")
        self.requests.left("c")
        self.requests.left("b")
        self.assertEqual(self.successResultOf(answers), {"a": "x"})

    def test_cut_off(self) -> None:
        """All fail when this node is cut off."""
        answers = [self.requests.begin(number, ["a"]) for number in (1, 2)]
        self.requests.fail_all()
        for each in answers:
            self.failureResultOf(each, CutOff)

    def test_cancel(self) -> None:
        """Who does not want to know any more leaves nothing behind."""
        answers = self.requests.begin(1, ["a"])
        answers.addErrback(lambda _: None)
        answers.cancel()

    def test_bound(self) -> None:
        """RS-2: there is a most of requests."""
        self.patch(requests_module, "MAX_REQUESTS", 2)
        answers = [self.requests.begin(number, ["a"]) for number in (1, 2)]
        self.failureResultOf(self.requests.begin(3, ["a"]), Unavailable)
        self.requests.left("a")
        for each in answers:
            self.assertEqual(self.successResultOf(each), {})
