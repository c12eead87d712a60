"""What is in flight between publishers and receivers, and how what comes is counted."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.bench.sessions import Failed, stomp_is_done
from tests.wire import client_frame

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

#: How a body ends. No other octets of a server's look like this: a WebSocket header would have to
#: tell of 32,000 octets.
MESSAGE: Final = b"}\0"

#: How a frame without a body ends.
RECEIPT: Final = b"\n\n\0"

_ACK = re.compile(rb"\nack:([^\n]*)\n")
_PUBLISHER = re.compile(rb"(\d)}\0")

Take: TypeAlias = Callable[[bytes], None]


class Flow:
    """What one publisher has in flight, at most a window of it.

    :param frames: what it sends, in turn.
    :param operations: how many SENDs each of them is.
    """

    def __init__(
        self, connection: socket.socket, frames: list[bytes], window: int, operations: int = 1
    ) -> None:
        self._send = connection.send
        self._frames = itertools.cycle(frames)
        self._alone = frames[0] if len(frames) == 1 else None
        self._window = window
        self._operations = operations
        self.sent = 0
        self.completed = 0

    def pump(self) -> None:
        """Fill the window."""
        free = self._window - self.sent + self.completed
        if free <= 0:
            return
        if self._alone:
            data = self._alone * free
        else:
            data = b"".join(itertools.islice(self._frames, free))
        if self._send(data) != len(data):
            raise Failed("the server does not read")
        self.started(free)
        self.sent += free

    def started(self, number: int) -> None:
        """So many were sent just now."""

    def arrived(self, receiver: int, number: int) -> None:
        """So many have come back to the receiver."""
        self.completed += number

    @property
    def operations(self) -> int:
        """How many SENDs are done."""
        return self.completed * self._operations


class FanOut(Flow):
    """A flow of which everything goes to everybody.

    :param receivers: how many there are.
    """

    def __init__(self, connection: socket.socket, frame: bytes, window: int, receivers: int):
        super().__init__(connection, [frame], window)
        self._receivers = receivers
        self._got = [0] * receivers
        self._missing: list[int] = []

    def started(self, number: int) -> None:
        """Note who has to get them."""
        self._missing += [self._receivers] * number

    def arrived(self, receiver: int, number: int) -> None:
        """A publish is done when the last receiver has it."""
        first = self._got[receiver]
        self._got[receiver] = last = first + number
        missing = self._missing
        for index in range(first, last):
            missing[index] -= 1
            if not missing[index]:
                self.completed += 1


class Queued(Flow):
    """A flow to a queue: a message is done when its receipt and the message itself have come."""

    def __init__(self, connection: socket.socket, frame: bytes, window: int) -> None:
        super().__init__(connection, [frame], window)
        self._arrived = [0, 0]

    def arrived(self, receiver: int, number: int) -> None:
        """Take receipts (0) or messages (1)."""
        self._arrived[receiver] += number
        self.completed = min(self._arrived)


def counting(mark: bytes, flow: Flow, receiver: int) -> Take:
    """What counts the marks of what it is given; one may be cut in two."""
    tail = b""
    arrived = flow.arrived

    def take(data: bytes) -> None:
        nonlocal tail
        if tail:
            data = tail + data
            tail = b""
        if data[-1]:
            tail = data[-2:]
        if number := data.count(mark):
            arrived(receiver, number)

    return take


def acknowledging(connection: socket.socket, flows: Sequence[Flow]) -> Take:
    """What acknowledges the messages in what it is given."""
    rest = b""

    def take(data: bytes) -> None:
        nonlocal rest
        data = rest + data
        if not stomp_is_done(data):
            rest = data
            return
        rest = b""
        acks = b"".join(client_frame(1, b"ACK\nid:%b\n\n\0" % key) for key in _ACK.findall(data))
        if acks and connection.send(acks) != len(acks):
            raise Failed("the server does not read")
        for publisher in _PUBLISHER.findall(data):
            flows[int(publisher)].arrived(1, 1)

    return take
