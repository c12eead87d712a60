"""Tests of stompauth.coroutines."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from stompauth.coroutines import _rest, start


class StartTests(SynchronousTestCase):
    """A coroutine runs at once as far as it can."""

    def test_at_once(self) -> None:
        """One that waits for nothing, or for what is there already, gives its result."""

        async def add() -> int:
            return await succeed(1) + await succeed(2)

        self.assertEqual(start(add()), 3)

    def test_raises_at_once(self) -> None:
        """What it raises then is raised."""

        async def bad() -> None:
            await fail(ValueError("bad"))

        self.assertRaises(ValueError, start, bad())

    def test_waits(self) -> None:
        """One that has to wait gives a Deferred, and goes on with each result as it comes."""
        first: Deferred[int] = Deferred()
        second: Deferred[int] = Deferred()

        async def add() -> int:
            return await first + await succeed(10) + await second

        result = start(add())
        assert isinstance(result, Deferred)
        first.callback(1)
        self.assertNoResult(result)
        second.callback(2)
        self.assertEqual(self.successResultOf(result), 13)

    def test_fails_later(self) -> None:
        """A failure of what it waits for is raised inside, where it may be caught."""
        first: Deferred[int] = Deferred()
        second: Deferred[int] = Deferred()

        async def take() -> int:
            try:
                return await first
            except ValueError:
                return await second

        result = start(take())
        assert isinstance(result, Deferred)
        first.errback(ValueError("bad"))
        second.errback(KeyError("worse"))
        self.failureResultOf(result, KeyError)

    def test_given_up(self) -> None:
        """One that nobody waits for any more is closed, and says nothing about it."""
        seen = []

        async def take() -> None:
            try:
                await Deferred()
            finally:
                seen.append("closed")

        waiting = take()
        rest = _rest(waiting, waiting.send(None))
        next(rest)
        rest.close()
        self.assertEqual(seen, ["closed"])
        self.assertRaises(RuntimeError, waiting.send, None)

    def test_cancel(self) -> None:
        """To cancel the Deferred cancels what the coroutine waits for."""
        first: Deferred[int] = Deferred()
        seen = []

        async def take() -> None:
            try:
                await first
            except CancelledError as error:
                seen.append(error)
                raise

        result = start(take())
        assert isinstance(result, Deferred)
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual(len(seen), 1)
