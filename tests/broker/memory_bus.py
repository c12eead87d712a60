"""A bus in memory, with every octet's time in the hands of the test."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail, succeed

from stompauth.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from stompauth.broker.bus import BusListener


class Hub:
    """What the buses of all nodes are connected to.

    :ivar published: every payload with its channel, in the hub's order.
    :ivar buses: in the order in which they were made.
    """

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.buses: list[MemoryBus] = []

    def bus(self) -> MemoryBus:
        """A bus for one more node."""
        bus = MemoryBus(self)
        self.buses.append(bus)
        return bus

    def publish(self, channel: str, payload: bytes) -> int:
        """Put a payload into the streams of all that are interested, and say how many."""
        self.published.append((channel, payload))
        reached = [bus for bus in self.buses if bus.covers(channel)]
        for bus in reached:
            bus.arriving.append(bus.receive(channel, payload))
        return len(reached)


class MemoryBus:
    """A node's two connections to a hub: one to publish, one for what it is interested in.

    What goes over them waits in four lines: in :attr:`publishing` and :attr:`accepted` on the way
    there and back of the one, in :attr:`asking` and :attr:`arriving` of the other.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.listener: BusListener | None = None
        self.is_connected = False
        self.is_paused = False
        self.interests: set[str] = set()
        self.publishing: deque[Callable[[], object]] = deque()
        self.accepted: deque[Callable[[], object]] = deque()
        self.asking: deque[Callable[[], object]] = deque()
        self.arriving: deque[Callable[[], object]] = deque()
        self._outstanding: dict[Deferred[object], None] = {}

    @property
    def lines(self) -> list[deque[Callable[[], object]]]:
        """The four lines."""
        return [self.publishing, self.accepted, self.asking, self.arriving]

    def start(self, listener: BusListener) -> None:
        self.listener = listener

    def stop(self) -> Deferred[None]:
        self.listener = None
        self._forget()
        return succeed(None)

    def connect(self) -> None:
        """The hub can be reached."""
        assert self.listener is not None
        self.is_connected = True
        self.listener.bus_connected()

    def lose(self) -> None:
        """The connections are gone, with what was on its way."""
        assert self.listener is not None
        listener = self.listener
        self._forget()
        listener.bus_lost()

    def publish(self, channel: str, payload: bytes) -> Deferred[int]:
        if not self.is_connected:
            return fail(Unavailable("away"))
        accepted: Deferred[int] = Deferred()
        self._outstanding[accepted] = None  # type: ignore[index]

        def take() -> None:
            reached = self.hub.publish(channel, payload)
            self.accepted.append(lambda: self._fire(accepted, reached))

        self.publishing.append(take)
        return accepted

    def subscribe(self, interest: str) -> Deferred[None]:
        if not self.is_connected:
            return fail(Unavailable("away"))
        confirmed: Deferred[None] = Deferred()
        self._outstanding[confirmed] = None  # type: ignore[index]

        def take() -> None:
            self.interests.add(interest)
            self.arriving.append(lambda: self._fire(confirmed, None))

        self.asking.append(take)
        return confirmed

    def unsubscribe(self, interest: str) -> None:
        if self.is_connected:
            self.asking.append(lambda: self.interests.discard(interest))

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def covers(self, channel: str) -> bool:
        """Whether one of the interests is in the channel."""
        return channel in self.interests or any(
            interest.endswith("*") and channel.startswith(interest[:-1])
            for interest in self.interests
        )

    def receive(self, channel: str, payload: bytes) -> Callable[[], None]:
        """Returns what brings a payload to the node."""

        def bring() -> None:
            if self.listener is not None:
                self.listener.bus_received(channel, payload)

        return bring

    def _fire(self, deferred: Deferred[object], result: object) -> None:
        del self._outstanding[deferred]
        deferred.callback(result)

    def _forget(self) -> None:
        self.is_connected = False
        self.interests.clear()
        for line in self.lines:
            line.clear()
        outstanding, self._outstanding = self._outstanding, {}
        for deferred in outstanding:
            deferred.errback(Unavailable("lost"))
