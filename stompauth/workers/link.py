"""One connection between two workers: frames on a Unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.python.failure import Failure

#: Octets of a frame's kind and payload: a little more than a message of the broker's can have.
MAX_FRAME: Final = (16 << 20) + 65536

#: Octets that a peer may leave unread beyond those that the transport takes, before it is given up.
MAX_EXCESS: Final = 16 << 20


class LinkUser(Protocol):
    """Who is told what a link brings."""

    def link_made(self, link: Link) -> None:
        """It can be written to."""

    def link_received(self, link: Link, kind: int, payload: bytes) -> None:
        """A frame has come."""

    def link_writable(self, link: Link) -> None:
        """The peer has read on, and :attr:`Link.is_paused` is over."""

    def link_lost(self, link: Link) -> None:
        """It has ended."""


def frame(kind: int, payload: bytes) -> bytes:
    """A frame: the length of the rest in four octets, one of its kind, and the payload."""
    return b"%b%c%b" % ((len(payload) + 1).to_bytes(4), kind, payload)


@implementer(IPushProducer)
class Link(TwistedProtocol):
    """Speaks to another worker.

    Twisted gathers what is written in a turn of the reactor; this adds no buffer of its own.

    :param user: is told what happens.
    :param is_ours: whether this side has made the connection.
    :ivar index: of the other worker; None until it is known.
    :ivar node_id: likewise.
    :ivar is_paused: whether the peer is slow to read. What is sent all the same waits, and when
        that is too much, the connection ends.
    """

    def __init__(self, user: LinkUser, *, is_ours: bool) -> None:
        self._user = user
        self.is_ours = is_ours
        self.index: int | None = None
        self.node_id: str | None = None
        self.is_paused = False
        self._excess = 0
        self._rest = bytearray()
        self._is_open = False

    def connectionMade(self) -> None:
        """The other side is there."""
        self._is_open = True
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self._user.link_made(self)

    def send(self, framed: bytes) -> None:
        """Send what :func:`frame` has made; in vain, once the link has ended."""
        if not self._is_open:
            return
        transport: Any = self.transport
        if self.is_paused:
            self._excess += len(framed)
            if self._excess > MAX_EXCESS:
                self.abort()
                return
        transport.write(framed)

    def abort(self) -> None:
        """End the connection, whatever is under way."""
        self._is_open = False
        transport: Any = self.transport
        transport.abortConnection()

    def close(self) -> None:
        """End the connection when all that was sent is on its way."""
        self._is_open = False
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def pauseProducing(self) -> None:
        """The transport is full."""
        self.is_paused = True

    def resumeProducing(self) -> None:
        """The transport is empty."""
        self.is_paused = False
        self._excess = 0
        self._user.link_writable(self)

    def stopProducing(self) -> None:
        """The connection has ended; :meth:`connectionLost` says so, too."""

    def dataReceived(self, data: bytes) -> None:
        """Take frames apart."""
        octets: bytes | bytearray = data
        if self._rest:
            self._rest += data
            octets = self._rest
        start = 0
        while len(octets) - start > 4 and self._is_open:
            size = int.from_bytes(octets[start : start + 4])
            if not 0 < size <= MAX_FRAME:
                self.abort()
                return
            end = start + 4 + size
            if end > len(octets):
                break
            self._user.link_received(self, octets[start + 4], bytes(octets[start + 5 : end]))
            start = end
        if octets is self._rest:
            del self._rest[:start]
        elif start < len(octets):
            self._rest = bytearray(octets[start:])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other side is gone."""
        self._is_open = False
        self._user.link_lost(self)
