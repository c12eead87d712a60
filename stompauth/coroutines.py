"""Coroutines that as a rule have nothing to wait for."""

from __future__ import annotations

from types import coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

_T = TypeVar("_T")


def start(running: Coroutine[Deferred[Any], Any, _T]) -> _T | Deferred[_T]:
    """Run a coroutine, up to where it has to wait.

    Unlike ``Deferred.fromCoroutine`` it makes no Deferred for one that is done at once.

    :return: its result, or a Deferred of that if it waits.
    :raises Exception: what it raises before it waits.
    """
    try:
        awaited = running.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    return Deferred.fromCoroutine(_rest(running, awaited))


@coroutine
def _rest(
    running: Coroutine[Deferred[Any], Any, _T], awaited: Deferred[Any]
) -> Generator[Deferred[Any], Any, _T]:
    try:
        while True:
            try:
                result = yield awaited
            except GeneratorExit:
                running.close()
                raise
            except Exception as error:
                awaited = running.throw(error)
            else:
                awaited = running.send(result)
    except StopIteration as stop:
        done: _T = stop.value
        return done
