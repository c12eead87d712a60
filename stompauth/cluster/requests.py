"""Questions to other nodes that wait for their answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred, fail

from stompauth.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Collection

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds that the nodes have for their answers.
TIMEOUT: Final = 1.0

#: Requests that wait at most.
MAX_REQUESTS: Final = 10_000


class CutOff(Unavailable):
    """The other nodes cannot be reached: none of them has heard of it."""

    def __init__(self) -> None:
        super().__init__("the other nodes cannot be reached")


@dataclass(slots=True)
class _Request:
    waiting: set[str]
    done: Deferred[dict[str, Any]]
    timer: IDelayedCall
    answers: dict[str, Any] = field(default_factory=dict)


class Requests:
    """The requests of this node that are not answered yet."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._number = 0
        self._requests: dict[int, _Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def next_number(self) -> int:
        """A number for a request."""
        self._number += 1
        return self._number

    def begin(self, number: int, nodes: Collection[str]) -> Deferred[dict[str, Any]]:
        """Wait for the answers of these nodes; a node that leaves meanwhile has none to give.

        :return: fires with the answers by node.
        :raises Unavailable: by the Deferred: a node did not answer, or too many requests wait.
        """
        if len(self._requests) >= MAX_REQUESTS:
            return fail(Unavailable("too many requests to other nodes"))

        def cancelled(_: object) -> None:
            self._forget(number)

        done: Deferred[dict[str, Any]] = Deferred(cancelled)
        late = Unavailable("another node did not answer")
        timer = self._clock.callLater(TIMEOUT, self.fail, number, late)
        self._requests[number] = _Request(set(nodes), done, timer)
        return done

    def answered(self, node_id: str, number: int, value: Any) -> None:
        """A node has answered; an answer that is late, or to no request, is passed over."""
        request = self._requests.get(number)
        if request is not None and node_id in request.waiting:
            request.waiting.remove(node_id)
            request.answers[node_id] = value
            self._end_if_done(number)

    def left(self, node_id: str) -> None:
        """A node has left."""
        for number, request in list(self._requests.items()):
            if node_id in request.waiting:
                request.waiting.remove(node_id)
                self._end_if_done(number)

    def fail(self, number: int, error: Unavailable) -> None:
        """A request will not be answered any more."""
        request = self._forget(number)
        if request is not None:
            request.done.errback(error)

    def fail_all(self) -> None:
        """None will be: this node is cut off."""
        for number in list(self._requests):
            self.fail(number, CutOff())

    def _end_if_done(self, number: int) -> None:
        if not self._requests[number].waiting:
            request = self._forget(number)
            if request is not None:
                request.done.callback(request.answers)

    def _forget(self, number: int) -> _Request | None:
        request = self._requests.pop(number, None)
        if request is not None and request.timer.active():
            request.timer.cancel()
        return request
